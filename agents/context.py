"""What a handler gets beside its input: where it keeps things, whom it may reach, who asked, and until when.

`state` is what the run *is*: it is on disk with the receipt. Everything else is what the run may *use*: live handles,
made anew after a crash.
"""

import datetime
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from ..contracts import (
    AgentId,
    Budget,
    CapabilityName,
    Clock,
    ContractBreach,
    Effect,
    Entropy,
    IdempotencyKey,
    InvalidConfiguration,
    InvalidInput,
    Offer,
    StepId,
    TaskId,
    Tenant,
    Unavailable,
)
from ..contracts.caller import Caller
from ..contracts.delegation import Delegates
from ..contracts.labels import OUTWARD, Marks
from ..contracts.memory import Memory
from ..contracts.messages import Call, Progress
from ..contracts.pool import Models
from .asking import Purse, StepPool
from .connector import Connector, Operation
from .effects import Effects, looked_up
from .marking import Marking
from .memory import Memories, StepMemory
from .models import Questions
from .state import State, Transaction, ended
from .tasks import Tasks

log = logging.getLogger("hanse.agents")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all handlers of one agent share."""

    agent: AgentId
    clock: Clock
    entropy: Entropy
    connectors: Mapping[str, Connector]
    report: Callable[[Progress], None]
    offer: Callable[[], Offer]
    labels: Callable[[CapabilityName], tuple[str, ...]]
    """What a contract says of the data that its capability works on."""
    models: Models | None = None
    memory: Memory | None = None
    delegates: Delegates | None = None


class Context:
    """One run of one handler. It ends with the handler; kept longer, it refuses everything."""

    __slots__ = (
        "_aside",
        "_call",
        "_deadline_ms",
        "_effect",
        "_effects",
        "_marking",
        "_memory",
        "_models",
        "_now_ms",
        "_purse",
        "_random",
        "_state",
        "_surroundings",
        "_tasks",
        "_transaction",
    )

    def __init__(
        self,
        call: Call,
        effect: Effect,
        surroundings: Surroundings,
        transaction: Transaction,
        effects: Effects | None,
        purse: Callable[[], Purse] = Purse,
        aside: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
        deadline_ms: Callable[[], int] = int,
        marking: Callable[[], Marking] | None = None,
    ) -> None:
        """`purse` and `marking` give the step's, which outlive this run; without, `marking` is of this run alone.
        `aside` is entered while the run waits for a child, which moves its `deadline_ms`.
        """
        self._call, self._effect, self._surroundings = call, effect, surroundings
        self._transaction, self._effects, self._purse = transaction, effects, purse
        self._aside, self._deadline_ms, self._marking = aside, deadline_ms, marking or cache(Marking)
        self._models: Questions | None = None
        self._tasks: Tasks | None = None
        self._memory: Memories | None = None
        self._now_ms: int | None = None
        self._state: State | None = None
        self._random: Random | None = None

    # What is kept

    @property
    def state(self) -> State:
        """The agent's own transactional store. Raises ContractBreach in a `pure` capability."""
        if self._state is None:
            self._check_not_pure("has no state")
            self._state = State(self._transaction, self._marking, writable=self._effect.writes)
        return self._state

    # Who may be reached

    @property
    def connectors(self) -> "Connectors":
        """Outside systems by their names in `hanse.yaml`. Raises ContractBreach in a `pure` capability."""
        self._check_not_pure("reaches nobody")
        return Connectors(self)

    @property
    def models(self) -> Questions:
        """The model pool, which what the step may spend pays for: the price in its contract.

        Raises ContractBreach in a `pure` capability and in `on_start`, Unavailable when there is no pool.
        """
        if self._models is None:
            self._models = Questions(self._pool())
        return self._models

    def _pool(self) -> StepPool:
        self._check_not_pure("asks no model")
        self._check_tenant("nobody pays. Ask models in a capability")
        around, call = self._surroundings, self._call
        if around.models is None:
            raise Unavailable("no model pool is configured. Add `models:` to hanse.yaml")
        return StepPool(
            around.models,
            call,
            around.agent,
            lambda: self.labels,
            self._purse(),
            self._effects,
            self._check_alive,
            self._deadline_ms,
        )

    def _check_alive(self) -> None:
        if self._transaction.ended:
            raise ended()

    @property
    def memory(self) -> Memories:
        """The shared memory, as this agent in this step.

        Raises ContractBreach in a `pure` capability, in `on_start`, and when one that only reads writes into it;
        Unavailable when there is none.
        """
        if self._memory is None:
            self._check_not_pure("recalls nothing")
            self._check_tenant("memory belongs to one. Recall in a capability")
            if self._surroundings.memory is None:
                raise Unavailable(
                    "no shared memory is configured. Add `memory:` to hanse.yaml, such as memory: {shards: 1}"
                )
            memory = self._surroundings.memory
            bound = StepMemory(memory, self._as_caller, self._check_memory, self._took, self._check_outward)
            self._memory = Memories(bound, self._call.key)
        return self._memory

    @property
    def tasks(self) -> Tasks:
        """Child tasks: work that other agents do on behalf of this step, with no more authority than it has.

        Raises ContractBreach in a `pure` capability and in `on_start`; Unavailable where there is no coordinator.
        """
        if self._tasks is None:
            self._check_not_pure("asks nobody")
            self._check_tenant("every task has one. Ask for tasks in a capability")
            around = self._surroundings
            if around.delegates is None:
                raise Unavailable("this agent runs alone: there is no federation to ask for a task")
            self._tasks = Tasks(
                around.delegates,
                self._call,
                around.agent,
                self._purse(),
                self._effects,
                self._aside,
                self._check_alive,
                self._marking(),
            )
        return self._tasks

    def _check_not_pure(self, so_it: str) -> None:
        if self._effect is Effect.PURE:
            self._breach(f'this capability says it is pure, so it {so_it}. Write: @capability(effect="read")')

    def _check_tenant(self, and_so: str) -> None:
        if not self._call.tenant:
            self._breach(f"an agent starts for no tenant, and {and_so}")

    def _check_memory(self, writes: bool) -> None:
        self._check_alive()
        if writes and not self._effect.writes:
            self._breach('this capability only reads, so it remembers nothing. Write: @capability(effect="reversible")')

    def _as_caller(self) -> Caller:
        call, agent = self._call, self._surroundings.agent
        return Caller(
            tenant=call.tenant,
            by=agent,
            agent=agent,
            task=call.task,
            step=call.step,
            capability=call.capability,
            labels=self.labels,
            budget_cents=call.budget_cents,
            deadline_ms=self._deadline_ms(),
        )

    # Who asked

    @property
    def idempotency_key(self) -> IdempotencyKey:
        """The same for every attempt of the step."""
        return self._call.key

    @property
    def task_id(self) -> TaskId:
        return self._call.task

    @property
    def step_id(self) -> StepId:
        return self._call.step

    @property
    def tenant(self) -> Tenant:
        return self._call.tenant

    @property
    def budget(self) -> Budget:
        """What the step may still spend."""
        return Budget(cents=self._call.budget_cents, tokens=self._call.budget_tokens)

    @property
    def offer(self) -> Offer:
        """What the agent says of itself now, without being asked: its queue, its latencies, its prices."""
        return self._surroundings.offer()

    @property
    def labels(self) -> tuple[str, ...]:
        """What is known of the data that this step works on by now: what its contract says, what came with its input,
        which its token vouches for, and what came with memories and from child tasks.
        """
        return self._marking().names(self._surroundings.labels(self._call.capability))

    def _check_outward(self, what: str) -> None:
        """Raises NotCleared where labels of what this step works on may not go outward, or decide what does."""
        self._marking().check_outward(what)

    def _took(self, marks: Marks) -> None:
        if marks:
            self._marking().take(marks)

    # Time and chance, the same when a step with outside effects is run again

    @property
    def now(self) -> datetime.datetime:
        """The time in UTC, which does not move while the handler runs."""
        if self._now_ms is None:
            self._now_ms = self._effects.moment[0] if self._effects else self._surroundings.clock.now_ms()
        return _moment(self._now_ms)

    @property
    def deadline(self) -> datetime.datetime | None:
        """When nobody waits any more, in UTC. None when somebody always does."""
        deadline = self._deadline_ms()
        return _moment(deadline) if deadline > 0 else None

    @property
    def remaining_seconds(self) -> float:
        """Until the deadline, by the clock of this moment; infinite without one."""
        deadline = self._deadline_ms()
        if deadline <= 0:
            return float("inf")
        return max(0.0, (deadline - self._surroundings.clock.now_ms()) / 1000)

    @property
    def random(self) -> Random:
        """Random numbers. Not for secrets."""
        if self._random is None:
            seed = self._effects.moment[1] if self._effects else self._surroundings.entropy.bytes(16)
            self._random = Random(seed)
        return self._random

    # Saying how it goes

    def progress(self, fraction: float, note: str = "") -> None:
        """Tells whoever watches how far the step is, in [0, 1]. Not kept, and may be lost."""
        self._surroundings.report(Progress(self._call.task, self._call.step, min(1.0, max(0.0, fraction)), note))

    @property
    def log(self) -> "logging.LoggerAdapter[logging.Logger]":
        """A logger that says which step this is. Write: `context.log.info("…", extra={"action": "label.printed"})`."""
        call = self._call
        about = {"agent": self._surroundings.agent, "capability": call.capability, "task": call.task, "step": call.step}
        return _Log(log, {"action": "handler", **about, "tenant": call.tenant})

    # For `Connectors`

    def _perform(
        self, connector: Connector, operation: Operation, name: str, request: dict[str, Any]
    ) -> Awaitable[Any]:
        self._check_alive()
        if operation.effect.writes or OUTWARD in self._surroundings.labels(self._call.capability):
            self._check_outward(f"{connector.name}.{operation.name}")
        if self._effects:
            return self._effects.perform(connector, operation, name, request)
        if operation.effect.writes:
            self._breach(f"{connector.name}.{operation.name} changes something outside. {self._remedy}")
        return looked_up(connector, operation, request)

    @property
    def _remedy(self) -> str:
        if self._effect.writes:
            return "That needs a step's idempotency key, so do it in a capability."
        return 'This capability says it only reads. Write: @capability(effect="irreversible")'

    def _breach(self, text: str) -> None:
        self._transaction.breach = ContractBreach(text, capability=self._call.capability)
        raise self._transaction.breach


class Connectors:
    """The configured outside systems: `context.connectors.mail.send(…)`."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getattr__(self, name: str) -> "BoundConnector":
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> "BoundConnector":
        configured = self._context._surroundings.connectors
        if name not in configured:
            known = ", ".join(sorted(configured)) or "none"
            raise InvalidConfiguration(
                f"no connector is called {name!r}. Configured: {known}. Add it under `connectors:` in hanse.yaml"
            )
        return BoundConnector(self._context, configured[name], "")

    def __iter__(self) -> Iterator[str]:
        return iter(self._context._surroundings.connectors)


class BoundConnector:
    """One outside system, inside one handler. Its operations are its methods."""

    __slots__ = ("_connector", "_context", "_name")

    def __init__(self, context: Context, connector: Connector, name: str) -> None:
        self._context, self._connector, self._name = context, connector, name

    def named(self, name: str) -> "BoundConnector":
        """The next effect is known by this name instead of its place among the step's effects.

        For effects whose order differs from run to run. A name is used once in a step. An effect with a name that did
        not happen is tried when the handler runs again, even if it had gone on to others; one without is not.
        """
        if not name.isidentifier() or name == "run":
            raise InvalidInput(f"an effect is named like a Python variable, and {name!r} is not")
        return BoundConnector(self._context, self._connector, name)

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        operation = self._connector.operations.get(name)
        if operation is None:
            if name.startswith("__"):
                raise AttributeError(name)
            known = ", ".join(sorted(self._connector.operations))
            raise InvalidInput(f"{self._connector.name} cannot {name!r}. It can: {known}")
        return self._operation(operation)

    def _operation(self, operation: Operation) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def perform(*arguments: Any, **named: Any) -> Any:
            request = operation.request(self._connector.name, arguments, named)
            return await self._context._perform(self._connector, operation, self._name, request)

        return perform


class _Log(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": {**(self.extra or {}), **(kwargs.get("extra") or {})}}


def _moment(unix_ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(unix_ms / 1000, datetime.UTC)
