"""A real federation in this process, the application over it, and, where bytes matter, a real server on a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from hanse.agents.agent import Agent
from hanse.agents.context import Context
from hanse.contracts import Refusal, capability
from hanse.runtime.client import LinkClient
from hanse.runtime.federation import Federation
from hanse.runtime.gateway import Credential, Settings, create_app

TOKEN, OTHER_TOKEN = "sesame-of-the-first", "sesame-of-the-other"
SETTINGS = {
    "credentials": (Credential.of("default", TOKEN, by="ada"), Credential.of("other", OTHER_TOKEN, by="eve")),
    "keep_alive_seconds": 0.05,
}
APPROVALS = [{"capability": "ledger.withdraw", "above": {"field": "cents", "limit": 500}}]


class Amount(BaseModel):
    account: str
    cents: int


class Balance(BaseModel):
    cents: int


class TooPoor(Refusal):
    """There is not that much in the account."""

    code = "ledger.too_poor"


class Ledger(Agent):
    """Keeps accounts."""

    domain = "ledger"
    released: ClassVar[asyncio.Event]
    """Until it is set, `held` goes on."""

    @capability(version="1.0", effect="reversible", compensation="withdraw")
    async def deposit(self, request: Amount, context: Context) -> Balance:
        """Add money to an account."""
        return await self._add(request.account, request.cents, context)

    @capability(version="1.0", effect="reversible", compensation="deposit")
    async def withdraw(self, request: Amount, context: Context) -> Balance:
        """Take money out of an account."""
        return await self._add(request.account, -request.cents, context)

    @capability(version="1.0", effect="read")
    async def balance(self, request: Amount, context: Context) -> Balance:
        """What is in an account."""
        return Balance(cents=await context.state.get("balance", request.account, default=0))

    @capability(version="1.0", effect="read")
    async def held(self, request: Amount, context: Context) -> Balance:
        """Take as long as the test wants."""
        await self.released.wait()
        return Balance(cents=request.cents)

    async def _add(self, account: str, cents: int, context: Context) -> Balance:
        balance = cents + await context.state.get("balance", account, default=0)
        if balance < 0:
            raise TooPoor(f"{account} has too little", account=account)
        await context.state.put("balance", account, balance)
        return Balance(cents=balance)


@pytest.fixture
async def federation() -> AsyncIterator[Federation]:
    Ledger.released = asyncio.Event()
    async with Federation.in_process(agents=[Ledger], approvals=APPROVALS) as running:
        yield running


@pytest.fixture
def app(federation: Federation) -> FastAPI:
    return app_over(federation)


def app_over(federation: Federation, settings: Settings | None = None, **changed: Any) -> FastAPI:
    """The application over a running federation."""
    client = federation.client
    assert isinstance(client, LinkClient)
    return create_app(client.acting, settings or Settings(**{**SETTINGS, **changed}))


def app_of(client: Any, **changed: Any) -> FastAPI:
    """The application over a client that has only the verbs a test asks for."""
    return create_app(lambda tenant, by: client, Settings(**{**SETTINGS, **changed}))


@pytest.fixture
async def http(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Asks as the first tenant, without a socket."""
    async with asking(app, TOKEN) as client:
        yield client


@asynccontextmanager
async def asking(app: Any, token: str | None = None, host: str = "127.0.0.1:8000") -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}", headers=headers) as client:
        yield client


class Server:
    """The application on a socket of its own. Can be stopped and started again at the same address."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._serving: asyncio.Task[None] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        config = uvicorn.Config(
            self._app,
            host="127.0.0.1",
            port=self.port,
            lifespan="off",
            ws="none",
            log_level="critical",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue]
        self._serving = asyncio.create_task(self._server._serve())
        while not self._server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving
            self._serving = None


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Any], Awaitable[Server]]]:
    """Puts applications on sockets and takes them off again."""
    async with AsyncExitStack() as stack:

        async def start(app: Any) -> Server:
            server = Server(app)
            await server.start()
            stack.push_async_callback(server.stop)
            return server

        yield start


@pytest.fixture
async def server(app: Any, serve: Callable[[Any], Awaitable[Server]]) -> Server:
    return await serve(app)


def deposit(cents: int = 5, account: str = "a") -> dict[str, Any]:
    return {"call": "ledger.deposit", "input": {"account": account, "cents": cents}}


def withdrawal(cents: int, account: str = "a") -> dict[str, Any]:
    return {"call": "ledger.withdraw", "input": {"account": account, "cents": cents}}


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is this problem, in the one shape that all problems have."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert problem["type"] == f"urn:hanse:error:{code}"
    assert (problem["code"], problem["status"]) == (code, status)
    assert problem["title"]
    assert problem["detail"]
    assert isinstance(problem["ids"], dict)
    return problem


@pytest.fixture
async def question_about_600(http: httpx.AsyncClient) -> str:
    """The id of a question: a withdrawal of 600 cents waits for a person."""
    await http.post("/v1/tasks?wait=10", json=deposit(1000))
    asked = (await http.post("/v1/tasks?wait=10", json=withdrawal(600))).json()
    return asked["approvals"][0]
