"""The contract of a capability, read from its signature, its docstring and its decorator.

A contract is a promise made as data: what goes in, what comes out, what it changes, how to undo it, what it costs
and how long it takes. It is checked when the class is created, because a promise that cannot be kept should fail
on the author's screen and not in somebody's task.
"""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar, get_type_hints

from .errors import InvalidContract
from .ids import CapabilityName, Digest, Domain
from .schema import JsonObject, Shape, digest

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Effect(StrEnum):
    """What a capability changes. Only the last two change anything."""

    PURE = "pure"
    READ = "read"
    REVERSIBLE = "reversible"
    IRREVERSIBLE = "irreversible"

    @property
    def writes(self) -> bool:
        return self in (Effect.REVERSIBLE, Effect.IRREVERSIBLE)


class Risk(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Negotiation(StrEnum):
    """How providers are found: from the offers they push, or by asking each of them."""

    OFFERS = "offers"
    PROPOSALS = "proposals"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how often a transient failure is tried again. Names as Temporal's RetryPolicy; intervals in seconds."""

    initial_interval: float = 0.1
    backoff_factor: float = 2.0
    max_interval: float = 10.0
    max_attempts: int = 5
    jitter: float = 0.5
    """Share of the interval that is random: 0.5 waits between half the interval and the whole."""

    def interval(self, attempt: int, random: float) -> float:
        """Seconds to wait after failed `attempt` (from 1), with `random` in [0, 1)."""
        full = min(self.max_interval, self.initial_interval * self.backoff_factor ** (attempt - 1))
        return full * (1 - self.jitter * random)


@dataclass(frozen=True, slots=True)
class Compensation:
    """How a step is undone: the capability and a template of its input over the step's `input` and `output`."""

    capability: CapabilityName
    input: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Contract:
    """What a capability promises."""

    name: CapabilityName
    version: str
    effect: Effect
    description: str
    input_schema: JsonObject
    output_schema: JsonObject
    compensation: Compensation | None = None
    risk: Risk = Risk.LOW
    price_cents: float = 0
    """What one call costs its caller, in cents of the federation's currency."""
    latency_ms: float = 10
    """Expected time of one call on an idle agent, in milliseconds."""
    timeout_seconds: float = 60
    negotiation: Negotiation = Negotiation.OFFERS
    labels: tuple[str, ...] = ()
    retry: RetryPolicy = RetryPolicy()

    def to_data(self) -> JsonObject:
        return {**asdict(self), "labels": list(self.labels)}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Contract":
        undo = data["compensation"]
        return Contract(
            **{
                **data,
                "effect": Effect(data["effect"]),
                "risk": Risk(data["risk"]),
                "negotiation": Negotiation(data["negotiation"]),
                "labels": tuple(data["labels"]),
                "retry": RetryPolicy(**data["retry"]),
                "compensation": undo and Compensation(**undo),
            }
        )

    @cached_property
    def digest(self) -> Digest:
        return digest(self.to_data())

    @cached_property
    def full_name(self) -> str:
        return f"{self.name}@{self.version}"

    def satisfies(self, wanted: str | None) -> bool:
        """Whether this version can stand in for `wanted` (`1.2`, `1` or None): same major, at least that minor."""
        if not wanted:
            return True
        return major_minor(self.version)[0] == major_minor(wanted)[0] and major_minor(self.version) >= major_minor(
            wanted
        )


def major_minor(version: str) -> tuple[int, int]:
    """`"1.2"` as (1, 2) and `"1"` as (1, 0). Raises InvalidContract for anything else."""
    major, _, minor = version.partition(".")
    if not (major.isdecimal() and (minor.isdecimal() or not minor)):
        raise InvalidContract(f"{version!r} is not a version. Write major.minor, such as 1.0.")
    return int(major), int(minor or 0)


@dataclass(frozen=True, slots=True)
class Declared:
    """What the decorator was given; the rest of the contract is in the signature and the docstring."""

    version: str
    effect: Effect
    compensation: str | None
    compensation_input: Mapping[str, Any]
    risk: Risk
    price_cents: float
    latency_ms: float
    timeout_seconds: float
    negotiation: Negotiation
    labels: tuple[str, ...]
    retry: RetryPolicy


def capability(
    *,
    version: str = "1.0",
    effect: str = "read",
    compensation: str | None = None,
    compensation_input: Mapping[str, Any] | None = None,
    risk: str = "low",
    price_cents: float = 0,
    latency_ms: float = 10,
    timeout_seconds: float = 60,
    negotiation: str = "offers",
    labels: tuple[str, ...] = (),
    retry: RetryPolicy | None = None,
) -> Callable[[Handler], Handler]:
    """Makes an async method of an `Agent` a capability.

    `effect` is `pure`, `read`, `reversible` or `irreversible`; a reversible one names its `compensation`, a method
    of the same agent (or `domain.method`). The compensation's input is taken by name from the step's input, then
    from its output, or from `compensation_input`, a template such as `{"cents": {"$from": "output.moved"}}`.
    """

    def mark(handler: Handler) -> Handler:
        where = handler.__qualname__
        declared = Declared(
            version=".".join(map(str, major_minor(version))),
            effect=_member(Effect, effect, "effect", where),
            compensation=compensation,
            compensation_input=dict(compensation_input or {}),
            risk=_member(Risk, risk, "risk", where),
            price_cents=price_cents,
            latency_ms=latency_ms,
            timeout_seconds=timeout_seconds,
            negotiation=_member(Negotiation, negotiation, "negotiation", where),
            labels=tuple(labels),
            retry=retry or RetryPolicy(),
        )
        handler.__hanse_capability__ = declared  # pyright: ignore[reportFunctionMemberAccess]
        return handler

    return mark


@dataclass(frozen=True)
class Capability:
    """A contract together with what only the agent's own process has: the handler's name and the types."""

    contract: Contract
    method: str
    input: Shape
    output: Shape
    takes_context: bool


def capabilities_of(cls: type, domain: Domain) -> dict[CapabilityName, Capability]:
    """Reads and checks every capability of a class. Raises InvalidContract, saying what to write."""
    marked = {name: handler for name in dir(cls) if (handler := _declared(cls, name))}
    found = {name: _read(cls, domain, name, *marked[name]) for name in sorted(marked)}
    for each in found.values():
        _check_compensation(each, found, domain)
    return {each.contract.name: each for each in found.values()}


def _declared(cls: type, name: str) -> tuple[Callable[..., Any], Declared] | None:
    handler = inspect.getattr_static(cls, name, None)
    declared = getattr(handler, "__hanse_capability__", None)
    return (handler, declared) if callable(handler) and declared else None


def _read(cls: type, domain: Domain, method: str, handler: Callable[..., Any], declared: Declared) -> Capability:
    where = f"{cls.__name__}.{method}"
    takes, gives, takes_context = _signature(handler, where)
    shapes = Shape(takes, f"{where}, input"), Shape(gives, f"{where}, output")
    contract = Contract(
        name=CapabilityName(f"{domain}.{method}"),
        version=declared.version,
        effect=declared.effect,
        description=_description(handler, where),
        input_schema=shapes[0].schema,
        output_schema=shapes[1].schema,
        compensation=_compensation(declared, shapes, domain, where),
        risk=declared.risk,
        price_cents=declared.price_cents,
        latency_ms=declared.latency_ms,
        timeout_seconds=declared.timeout_seconds,
        negotiation=declared.negotiation,
        labels=declared.labels,
        retry=declared.retry,
    )
    return Capability(contract, method, *shapes, takes_context)


def _signature(handler: Callable[..., Any], where: str) -> tuple[Any, Any, bool]:
    if not inspect.iscoroutinefunction(handler):
        raise InvalidContract(f"{where} must be async. Write: async def {handler.__name__}(self, request, context)")
    hints = _hints(handler, where)
    names = list(inspect.signature(handler).parameters)[1:]
    if not names or len(names) > 2:
        raise InvalidContract(f"{where} takes {len(names)} arguments. Write: (self, request: Model, context: Context)")
    if names[0] not in hints:
        raise InvalidContract(f"{where}: annotate {names[0]!r} with the type of its input, a pydantic model")
    if "return" not in hints:
        raise InvalidContract(f"{where}: annotate what it returns. Write: -> Model")
    return hints[names[0]], hints["return"], len(names) == 2


def _hints(handler: Callable[..., Any], where: str) -> dict[str, Any]:
    try:
        return get_type_hints(handler, include_extras=True)
    except NameError as error:
        raise InvalidContract(f"{where}: the annotation {error.name!r} cannot be found in its module") from error


def _description(handler: Callable[..., Any], where: str) -> str:
    if text := inspect.getdoc(handler):
        return text
    raise InvalidContract(f"{where} has no docstring. Write one sentence that says what it does; planners read it.")


def _compensation(declared: Declared, shapes: tuple[Shape, Shape], domain: Domain, where: str) -> Compensation | None:
    if declared.effect is Effect.REVERSIBLE and not declared.compensation:
        raise InvalidContract(f'{where} is reversible but names no compensation. Write: compensation="method"')
    if declared.effect is not Effect.REVERSIBLE and declared.compensation:
        raise InvalidContract(f'{where} names a compensation but is {declared.effect}. Write: effect="reversible"')
    if not declared.compensation:
        return None
    name = declared.compensation if "." in declared.compensation else f"{domain}.{declared.compensation}"
    return Compensation(CapabilityName(name), declared.compensation_input)


def _check_compensation(each: Capability, found: Mapping[str, Capability], domain: Domain) -> None:
    undo = each.contract.compensation
    if undo is None:
        return
    other = found.get(undo.capability.removeprefix(f"{domain}."))
    if other is None:
        return _check_spelling(each, found, undo.capability)
    template = _bind(each, other)
    object.__setattr__(each.contract, "compensation", Compensation(undo.capability, template))


def _check_spelling(each: Capability, found: Mapping[str, Capability], wanted: str) -> None:
    """A name from elsewhere may exist in the federation and is checked there; a near miss is a typing error."""
    near = difflib.get_close_matches(wanted.rpartition(".")[2], found, n=1, cutoff=0.8)
    if near:
        raise InvalidContract(
            f"{each.contract.name}: there is no capability {wanted!r} to compensate it. Did you mean {near[0]!r}?"
        )


def _bind(each: Capability, undo: Capability) -> JsonObject:
    given = each.contract.compensation.input if each.contract.compensation else {}
    template: JsonObject = dict(given)
    for name in undo.input.schema.get("properties", {}):
        if name not in template and (source := _source(each, undo, name)):
            template[name] = {"$from": f"{source}.{name}"}
    missing = [name for name in undo.input.schema.get("required", []) if name not in template]
    if missing:
        raise InvalidContract(
            f"{each.contract.name}: its compensation {undo.contract.name} needs {missing[0]!r}, which is neither in the "
            f"step's input nor in its output. Add it to the output, or write "
            f'compensation_input={{"{missing[0]}": {{"$from": "output.…"}}}}'
        )
    return template


def _source(each: Capability, undo: Capability, name: str) -> str | None:
    wanted = undo.input.schema["properties"][name].get("type")
    for source, shape in (("input", each.input), ("output", each.output)):
        there = shape.schema.get("properties", {}).get(name)
        if there is not None and _same_type(there.get("type"), wanted):
            return source
    return None


def _same_type(there: Any, wanted: Any) -> bool:
    return there == wanted or None in (there, wanted) or (there, wanted) == ("integer", "number")


Kind = TypeVar("Kind", bound=StrEnum)


def _member(kind: type[Kind], text: str, option: str, where: str) -> Kind:
    try:
        return kind(text)
    except ValueError:
        known = ", ".join(kind)
        raise InvalidContract(f"{where}: {option}={text!r} is not one of {known}") from None
