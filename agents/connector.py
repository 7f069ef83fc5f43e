"""Connectors: how an agent reaches systems that are not agents, such as a mail server or somebody's HTTP API.

A connector says what it can do as operations, and for each effect it says honestly how it went. There are three
outcomes and no fourth: it happened (a return value), it did not (a `Transient`, `Permanent` or `PolicyError`), or
nobody knows (`OutcomeUnknown`). An operation that cannot tell says that it does not know; a guess either way loses an
effect or doubles it. Afterwards `reconcile` asks the outside system, if it can be asked.

The ledger in `effects` keeps the promise that an effect happens once; a connector only passes the key on.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from ..contracts import (
    Clock,
    Effect,
    InvalidConfiguration,
    InvalidContract,
    InvalidInput,
    JsonObject,
    OutcomeUnknown,
    Shape,
)
from ..contracts.schema import invalid
from .guard import Guard
from .secrets import secrets_in

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])


class Done(NamedTuple):
    """The outside system knows the key: the effect happened. The result is plain data."""

    result: Any


class Absent(NamedTuple):
    """The outside system does not know the key, so far."""


Answer = Done | Absent


class ConnectorOptions(BaseModel):
    """What `hanse.yaml` says of a connector. Unknown keys are refused; what is secret is a `SecretStr`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout_seconds: float = Field(default=10, gt=0, allow_inf_nan=False)
    """For one operation, from its first byte to its last."""
    settle_seconds: float = Field(default=2, ge=0, allow_inf_nan=False)
    """How long the outside system may take to show what it accepted. A key it does not know then never arrived."""
    max_concurrent: int | None = Field(default=None, ge=1)
    """Operations of one agent at once; more wait. No limit when left out."""
    max_waiting: int = Field(default=1024, ge=1)
    """Operations that may wait for their place or their turn; the next is refused before anything is begun."""
    per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Operations of one agent a second, on average. No limit when left out."""
    burst: float = Field(default=1, ge=1, allow_inf_nan=False)
    """How many of these at once after a pause."""
    breaker_failures: int = Field(default=5, ge=1)
    """Failures in a row after which it is left alone for a while."""
    breaker_seconds: float = Field(default=1, gt=0, allow_inf_nan=False)
    """For how long at first. Also the shortest time between two probes."""


@dataclass(frozen=True)
class Operation:
    """One thing a connector can do."""

    name: str
    effect: Effect
    signature: inspect.Signature
    result: Shape
    handler: Callable[..., Awaitable[Any]]

    def request(self, where: str, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> JsonObject:
        """The call as plain data, defaults filled in. Raises InvalidInput for arguments that do not fit."""
        try:
            bound = self.signature.bind(*arguments, **named)
            bound.apply_defaults()
            return {name: to_jsonable_python(value, by_alias=True) for name, value in bound.arguments.items()}
        except (TypeError, PydanticSerializationError) as error:
            raise InvalidInput(f"{where}.{self.name}{self.signature}: {error}") from None


def operation(*, effect: str = "irreversible") -> Callable[[Handler], Handler]:
    """Makes an async method of a connector an operation: `async def send(self, key, *, to, body) -> Sent`.

    `key` is the effect's idempotency key, to be passed downstream; for `effect="read"` it is empty. The other
    parameters and the result are JSON types or pydantic models, because both go into the ledger.
    """

    def mark(handler: Handler) -> Handler:
        handler.__hanse_operation__ = Effect(effect)  # pyright: ignore[reportFunctionMemberAccess]
        return handler

    return mark


class Connector:
    """One configured outside system. Made and closed by the host.

    A subclass has `Options`, operations, and where it can, `reconcile`. It does no I/O before its first operation.
    """

    Options: ClassVar[type[ConnectorOptions]] = ConnectorOptions
    operations: ClassVar[Mapping[str, Operation]] = {}
    name: str = "connector"
    """What it is called in `hanse.yaml`, and so in the ledger."""
    guard: Guard | None = None
    """Its limits, within an agent."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.operations = {name: _operation(cls, name) for name in dir(cls) if _marked(cls, name)}

    def __init__(self, **options: Any) -> None:
        """Raises InvalidConfiguration when the options do not fit."""
        try:
            self.options: Any = self.Options.model_validate(options)
        except ValidationError as error:
            problem = invalid(error)
            raise InvalidConfiguration(f"{type(self).__name__}: {problem.detail}", **problem.ids) from None

    def called(self, name: str) -> Self:
        """Itself, under the name it is configured by."""
        self.name = name
        return self

    def guarded(self, clock: Clock) -> Self:
        """Itself, within the limits that its options set."""
        self.guard = Guard(self.name, self.options, clock)
        return self

    @property
    def timeout_seconds(self) -> float:
        return self.options.timeout_seconds

    @property
    def settle_seconds(self) -> float:
        return self.options.settle_seconds

    @property
    def repeatable(self) -> bool:
        """Whether the outside system does nothing twice for one key. Then what is in doubt is simply done again."""
        return False

    @property
    def askable(self) -> bool:
        """Whether `reconcile` can find out what happened."""
        return False

    async def reconcile(self, operation: str, key: str, request: JsonObject) -> Answer:
        """Asks the outside system whether the effect happened, and changes nothing there. Raises OutcomeUnknown."""
        raise OutcomeUnknown(f"connector {self.name!r} has no way to ask; a person must find out", effect=key)

    async def close(self) -> None:
        """Gives connections back; an operation after that opens new ones. Idempotent."""

    def secrets(self) -> Iterator[str]:
        """Values that may appear in no log and no error."""
        yield from secrets_in(self.options)


def _marked(cls: type, name: str) -> bool:
    return hasattr(inspect.getattr_static(cls, name, None), "__hanse_operation__")


def _operation(cls: type, name: str) -> Operation:
    handler, where = getattr(cls, name), f"{cls.__name__}.{name}"
    _, key, *parameters = inspect.signature(handler).parameters.values()
    hints = get_type_hints(handler, include_extras=True)
    if not inspect.iscoroutinefunction(handler) or key.name != "key" or "return" not in hints:
        raise InvalidContract(f"{where} is no operation. Write: async def {name}(self, key: str, …) -> Result")
    result = Shape(hints["return"], f"{where}, result")
    return Operation(name, handler.__hanse_operation__, inspect.Signature(parameters), result, handler)
