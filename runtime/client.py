"""One tenant's view of a federation: the verbs that the gateway, the CLI and `Federation` are made of.

Two classes keep this protocol: `LinkClient` here speaks frames to the coordinators of its own cluster, `HttpClient`
(`http_client.py`) speaks to a gateway. Both raise the errors of `contracts.errors`, never their transport's.
"""

from typing import Protocol

from ..contracts import (
    AgentView,
    ApprovalView,
    AuditReport,
    Contract,
    Event,
    FederationView,
    StepView,
    Submission,
    TaskView,
)


class Client(Protocol):
    """All methods raise Unavailable when the coordinator cannot be reached; trying again is safe."""

    async def submit(self, submission: Submission) -> TaskView:
        """The task, on disk when this returns. The same idempotency key returns the first task.

        Raises InvalidPlan, InvalidInput, KeyReused (same key, another body), Overloaded, TooLarge.
        """
        ...

    async def task(self, task: str) -> TaskView:
        """Raises NotFound, also for a task of another tenant."""
        ...

    async def tasks(self, *, status: str | None = None, limit: int = 100, before: str | None = None) -> list[TaskView]:
        """Newest first; `before` is the last id of the previous page."""
        ...

    async def steps(self, task: str) -> list[StepView]: ...

    async def events(
        self, task: str | None = None, *, after: int = 0, wait_seconds: float = 0, limit: int = 1000
    ) -> list[Event]:
        """Events with a sequence above `after`, oldest first; waits up to `wait_seconds` for the first of them.

        Of one task, or (None) of every task of the tenant. An empty list means that the wait was over. With several
        shards `task=None` interleaves them and `after` applies to each shard.
        """
        ...

    async def wait(self, task: str, seconds: float) -> TaskView:
        """The task as soon as it is terminal or needs a person, or as it is after `seconds`."""
        ...

    async def cancel(self, task: str, reason: str = "") -> TaskView: ...

    async def agents(self) -> list[AgentView]: ...

    async def capabilities(self) -> list[Contract]: ...

    async def capability(self, name: str) -> Contract:
        """Raises NotFound, naming near ones."""
        ...

    async def approvals(self, *, pending: bool = True) -> list[ApprovalView]: ...

    async def decide(self, approval: str, *, approve: bool, digest: str, note: str = "") -> ApprovalView:
        """Decides once. Raises DigestMismatch, NotFound, Conflict when it was decided otherwise before."""
        ...

    async def status(self) -> FederationView: ...

    async def verify(self) -> AuditReport:
        """Checks the hash chain of every journal from its genesis."""
        ...

    async def close(self) -> None: ...
