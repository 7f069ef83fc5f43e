"""Errors, events, ports and declarations as the type checker sees them.

Not run: `tests/test_typing.py` has pyright read it. A line that must be wrong says so with `# error: RULE`.
"""

from asyncio import Future
from collections.abc import Iterable, Sequence
from typing import Any, assert_type

from hanse.contracts import (
    Clock,
    Contract,
    Effect,
    Epoch,
    Event,
    HanseError,
    Kind,
    NotFound,
    Refusal,
    Store,
    TaskId,
    TaskStatus,
    Verdict,
    Write,
    capability,
)

# Errors keep their type through `about`

assert_type(NotFound("x").about(task="t"), NotFound)
assert_type(HanseError.from_data({}), HanseError)
assert_type(Refusal("no").verdict, Verdict)

# A capability keeps its signature, so calling it wrongly stays wrong


class Ledger:
    """Keeps accounts."""

    @capability(version="1.0", effect="read")
    async def balance(self, request: int) -> str:
        """Read the balance."""
        return str(request)

    @capability(version=1.0)  # error: reportArgumentType
    async def one(self, request: int) -> int:
        """A version is text."""
        return request

    @capability(efect="read")  # error: reportCallIssue
    async def two(self, request: int) -> int:
        """A misspelt option."""
        return request

    @capability(retry=3)  # error: reportArgumentType
    async def three(self, request: int) -> int:
        """A policy is no number."""
        return request


async def use(ledger: Ledger) -> None:
    assert_type(await ledger.balance(5), str)
    await ledger.balance("five")  # error: reportArgumentType
    await ledger.balance()  # error: reportCallIssue


# Values are frozen and complete


def read(event: Event, contract: Contract) -> None:
    assert_type(event.kind, Kind)
    assert_type(event.task, TaskId | None)
    assert_type(contract.effect, Effect)
    assert_type(contract.satisfies("1.0"), bool)
    event.kind = Kind.STEP_SKIPPED  # error: reportAttributeAccessIssue
    contract.effect = Effect.READ  # error: reportAttributeAccessIssue
    assert_type(TaskStatus("working").terminal, bool)


# Ports are kept by shape


class Memory:
    @property
    def epoch(self) -> Epoch:
        return Epoch(1)

    def commit(self, writes: Iterable[Write]) -> "Future[None]":
        raise NotImplementedError

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return []

    async def close(self) -> None: ...


class Forgetful:
    def commit(self, writes: Iterable[Write]) -> None: ...


store: Store = Memory()
broken: Store = Forgetful()  # error: reportAssignmentType
clock: Clock = Memory()  # error: reportAssignmentType
