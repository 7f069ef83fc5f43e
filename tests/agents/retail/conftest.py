"""The store as a federation in this process, with a real mail server on loopback."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from hanse.agents.retail import (
    Catalogue,
    Customers,
    Desk,
    HarbourPost,
    Notices,
    Orders,
    Payments,
    PrairieExpress,
    exported,
)
from hanse.agents.retail.documents import DocumentSet
from hanse.contracts import StepStatus, StepView, TaskView
from hanse.runtime.config import AgentEntry
from hanse.runtime.federation import Federation

WITH_DATA = (Catalogue, Customers, Orders, Payments)
WITHOUT_DATA = (Desk, Notices, HarbourPost, PrairieExpress)
PATIENCE_SECONDS = 30


class Mailbox:
    """What the mail server took in. One SMTP session is one letter."""

    def __init__(self) -> None:
        self.letters: list[Message] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.letters.append(message_from_bytes(envelope.content))
        return "250 OK"

    def bodies(self) -> list[str]:
        """In the order of their arrival, lines joined."""
        payloads = [letter.get_payload(decode=True) for letter in self.letters]
        return [" ".join(payload.decode().split()) for payload in payloads if isinstance(payload, bytes)]

    def subjects(self) -> list[str]:
        return sorted(str(letter["Subject"]) for letter in self.letters)


class Store:
    """A running store."""

    def __init__(self, federation: Federation, mailbox: Mailbox) -> None:
        self.federation, self.mailbox = federation, mailbox

    async def call(self, capability: str, input: Mapping[str, Any]) -> Any:
        return await self.federation.call(capability, input, timeout_seconds=PATIENCE_SECONDS)

    async def run(self, plan: Any, key: str | None = None) -> "Ran":
        task = await self.federation.submit(plan=plan, idempotency_key=key)
        view = await task.wait(PATIENCE_SECONDS)
        return Ran(view, {step.id: step for step in await task.steps()})

    async def documents(self) -> DocumentSet:
        return await exported(self.call)


class Ran:
    """A task that has ended."""

    def __init__(self, task: TaskView, steps: dict[str, StepView]) -> None:
        self.task, self.steps = task, steps

    @property
    def errors(self) -> dict[str, str | None]:
        """As `outcomes` takes them."""
        seen = {id: step for id, step in self.steps.items() if step.status in (StepStatus.COMPLETED, StepStatus.FAILED)}
        return {id: step.error.detail if step.error else None for id, step in seen.items()}


@pytest.fixture
async def mail_port() -> AsyncIterator[tuple[Mailbox, int]]:
    mailbox = Mailbox()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox), "127.0.0.1", 0)
    async with server:
        yield mailbox, server.sockets[0].getsockname()[1]


@asynccontextmanager
async def opened_store(
    folder: Path | str, mail: tuple[Mailbox, int], options: Mapping[str, Any] | None = None, **sections: Any
) -> AsyncIterator[Store]:
    entries = [AgentEntry.model_validate({"class": cls, "options": options or {}}) for cls in WITH_DATA]
    connectors = {"mail": {"kind": "smtp", "host": "127.0.0.1", "port": mail[1], "sender": "store@example.com"}}
    federation = Federation.in_process([*entries, *WITHOUT_DATA], data=folder, connectors=connectors, **sections)
    async with federation:
        yield Store(federation, mail[0])


@pytest.fixture(scope="session")
def full_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store that has taken in the shipped data and done nothing yet."""
    folder = tmp_path_factory.mktemp("store")

    async def open_and_close() -> None:
        async with opened_store(folder, (Mailbox(), 1)) as store:
            await store.call("desk.acknowledge", {})

    asyncio.run(open_and_close())
    return folder


@pytest.fixture
async def full_store(full_data: Path, tmp_path: Path, mail_port: tuple[Mailbox, int]) -> AsyncIterator[Store]:
    """A store with all of the shipped data."""
    folder = tmp_path / "store"
    shutil.copytree(full_data, folder)
    async with opened_store(folder, mail_port) as store:
        yield store


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """Two customers, three products and an order in each state."""
    path = tmp_path / "small.json"
    path.write_text(json.dumps(SMALL))
    return path


@pytest.fixture
async def store(small_data: Path, mail_port: tuple[Mailbox, int]) -> AsyncIterator[Store]:
    """A small store in memory, in which refunds above 500 dollars wait for a person."""
    rules = [{"capability": "payments.refund", "above": {"field": "amount", "limit": 500}}]
    async with opened_store(":memory:", mail_port, {"data": str(small_data)}, approvals=rules) as store:
        yield store


def address(state: str = "NY", country: str = "USA") -> dict[str, str]:
    return {"address1": "1 Pier", "address2": "", "city": "City", "country": country, "state": state, "zip": "10001"}


def order(
    order_id: str, status: str, *, user_id: str = "ada", paid_with: str = "card", **changes: Any
) -> dict[str, Any]:
    items = changes.pop("items", [("lamp", "lamp_red", 300.0), ("shoe", "shoe_39", 50.0)])
    return {
        "order_id": order_id,
        "user_id": user_id,
        "address": address(**changes),
        "items": [
            {"name": product, "product_id": product, "item_id": item, "price": price, "options": {"kind": item}}
            for product, item, price in items
        ],
        "status": status,
        "fulfillments": [],
        "payment_history": [
            {
                "transaction_type": "payment",
                "amount": sum(price for _, _, price in items),
                "payment_method_id": paid_with,
            }
        ],
    }


def product(product_id: str, **prices: float) -> dict[str, Any]:
    variants = {f"{product_id}_{kind}": price for kind, price in prices.items()}
    return {
        "name": product_id,
        "product_id": product_id,
        "variants": {
            item: {"item_id": item, "options": {"kind": item}, "available": not item.endswith("gone"), "price": price}
            for item, price in variants.items()
        },
    }


def user(user_id: str, first_name: str, orders: list[str], **methods: dict[str, Any]) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "name": {"first_name": first_name, "last_name": "Ray"},
        "address": address(),
        "email": f"{user_id}@example.com",
        "payment_methods": {id: {"id": id, **method} for id, method in methods.items()},
        "orders": orders,
    }


_ADAS = [
    order("#P", "pending"),
    order("#G", "pending", paid_with="gift"),
    order("#BIG", "pending", items=[("lamp", "lamp_red", 300.0), ("lamp", "lamp_red", 300.0)]),
    order("#D", "delivered"),
    order("#WEST", "delivered", state="CA"),
    order("#ABROAD", "delivered", country="Norway"),
]
SMALL: dict[str, Any] = {
    "orders": {each["order_id"]: each for each in [*_ADAS, order("#B", "pending", user_id="bob", paid_with="paypal")]},
    "users": {
        "ada": user(
            "ada",
            "Ada",
            [each["order_id"] for each in _ADAS],
            card={"source": "credit_card", "brand": "visa", "last_four": "1234"},
            gift={"source": "gift_card", "balance": 100.0},
        ),
        "bob": user("bob", "Bob", ["#B"], paypal={"source": "paypal"}),
    },
    "products": {
        each["product_id"]: each
        for each in (
            product("lamp", red=300.0, blue=310.0, gold=900.0, tin=250.5, gone=300.0),
            product("shoe", **{"39": 50.0, "40": 50.0}),
        )
    },
}
