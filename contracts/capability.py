"""The contract of a capability, read from its signature, its docstring and its decorator.

A contract is a promise made as data: what goes in, what comes out, what it changes, how to undo it, what it costs
and how long it takes. It is checked when the class is created, because a promise that cannot be kept should fail
on the author's screen and not in somebody's task.
"""

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from functools import cache, cached_property
from math import inf
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from .compensation import bind
from .errors import InvalidContract, InvalidInput
from .ids import CapabilityName, Digest, Domain
from .labels import OUTWARD
from .plain import check
from .schema import JsonObject, Shape, digest, invalid

Handler = TypeVar("Handler", bound=Callable[..., Any])

_DOMAIN = re.compile(r"[a-z][a-z0-9_]{0,63}")
_METHOD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_VERSION = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?")


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
    retry_on: tuple[str, ...] | None = None
    """Codes of errors, or branches such as `transient`, that are tried again, and no others. By the error's type when
    None. What was begun outside is brought to its end in any case."""

    def interval(self, attempt: int, random: float) -> float:
        """Seconds to wait after failed `attempt` (from 1), with `random` in [0, 1)."""
        return min(self.max_interval, self._grown(attempt)) * (1 - self.jitter * random)

    def _grown(self, attempt: int) -> float:
        try:
            return self.initial_interval * self.backoff_factor ** (attempt - 1)
        except OverflowError:  # 2.0 ** 1024
            return inf


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
    """What undoes it; of a staged effect, what cancels it."""
    confirmation: Compensation | None = None
    """What makes a staged effect final, once every step of the plan is done: try, confirm, cancel."""
    risk: Risk = Risk.LOW
    price_cents: float = 0
    """What one call costs its caller, in cents of the federation's currency."""
    latency_ms: float = 10
    """Expected time of one call on an idle agent, in milliseconds."""
    timeout_seconds: float = 60
    negotiation: Negotiation = Negotiation.OFFERS
    labels: tuple[str, ...] = ()
    """What is known of the data that it works on and gives: `private`, `untrusted`, `pii`, … They travel with what is
    made of it. `outward` is one of the capability itself: what goes into it leaves the house."""
    retry: RetryPolicy = RetryPolicy()
    max_concurrent: int | None = None
    """Calls of it that one agent works on at once; more wait. Only the agent's own limit when None."""

    def __post_init__(self) -> None:
        """Raises InvalidContract for a promise that nobody can rely on, whoever makes it."""
        major_minor(self.version)
        _check_name(self.name)
        _check_figures(self)
        _check_template(self)

    @property
    def is_outward(self) -> bool:
        """Whether what goes into it cannot be called back: it changes something for good, or stages what is made final
        by itself, or says that it goes out.
        """
        return self.effect is Effect.IRREVERSIBLE or self.confirmation is not None or OUTWARD in self.labels

    def to_data(self) -> JsonObject:
        """Plain data. A figure is written as a float, whether its author wrote 1 or 1.0: it is the same promise."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)}
        named = {name: asdict(plain[name]) for name in ("compensation", "confirmation") if plain[name] is not None}
        data = _with_floats({**plain, **named, "labels": list(self.labels)}, _FIGURES)
        if self.max_concurrent is None:
            del data["max_concurrent"]  # a contract that says nothing of it keeps its digest
        if self.confirmation is None:
            del data["confirmation"]  # a contract without one keeps the digest it always had
        return data | {"retry": _retry_data(asdict(self.retry))}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Contract":
        """Raises InvalidContract when this is none. What a newer version added is ignored."""
        try:
            return _contracts().validate_python(data)
        except ValidationError as error:
            raise InvalidContract(f"this is not a contract: {invalid(error).detail}") from None

    @cached_property
    def digest(self) -> Digest:
        return digest(self.to_data())

    @cached_property
    def full_name(self) -> str:
        return f"{self.name}@{self.version}"

    def satisfies(self, wanted: str | None) -> bool:
        """Whether this version can stand in for `wanted` (`1.2`, `1` or None): same major, at least that minor."""
        return satisfies(self.version, wanted)


_FIGURES = ("price_cents", "latency_ms", "timeout_seconds")
_RETRY_FIGURES = ("initial_interval", "backoff_factor", "max_interval", "jitter")


def _retry_data(data: JsonObject) -> JsonObject:
    retry_on = data.pop("retry_on")
    return _with_floats(data, _RETRY_FIGURES) | ({} if retry_on is None else {"retry_on": list(retry_on)})


def _with_floats(data: JsonObject, names: Iterable[str]) -> JsonObject:
    return data | {name: float(data[name]) for name in names}


@cache
def _contracts() -> TypeAdapter[Contract]:
    return TypeAdapter(Contract)


def major_minor(version: str) -> tuple[int, int]:
    """`"1.2"` as (1, 2) and `"1"` as (1, 0). Raises InvalidContract for anything else."""
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if match is None:
        raise InvalidContract(f'{version!r:.80} is not a version. Write "major.minor" as text, such as "1.0".')
    return int(match[1]), int(match[2] or 0)


def satisfies(version: str, wanted: str | None) -> bool:
    """Whether `version` can stand in for `wanted`: same major, at least that minor. None takes any."""
    if not wanted or version == wanted:
        return True
    mine, theirs = major_minor(version), major_minor(wanted)
    return mine[0] == theirs[0] and mine >= theirs


def _check_name(name: str) -> None:
    domain, _, method = name.partition(".")
    if not _DOMAIN.fullmatch(domain):
        raise InvalidContract(f"{domain!r:.80} is no domain. Write lower-case letters, digits and _, at most 64")
    if not _METHOD.fullmatch(method):
        raise InvalidContract(f"{method!r:.80} is no name for a capability. Write letters, digits and _, at most 64")


_COUNTS = ("retry.max_attempts", "max_concurrent")
_MOST = 1e12
"""No figure of a contract is larger, so none is infinite or too large for a float."""


def _check_figures(contract: Contract) -> None:
    retry = contract.retry
    figures = {
        "price_cents": (contract.price_cents, 0, _MOST),
        "latency_ms": (contract.latency_ms, 0, _MOST),
        "timeout_seconds": (contract.timeout_seconds, 0.001, _MOST),
        "retry.initial_interval": (retry.initial_interval, 0, _MOST),
        "retry.max_interval": (retry.max_interval, 0, _MOST),
        "retry.backoff_factor": (retry.backoff_factor, 1, _MOST),
        "retry.max_attempts": (retry.max_attempts, 1, _MOST),
        "retry.jitter": (retry.jitter, 0, 1),
    }
    if contract.max_concurrent is not None:
        figures["max_concurrent"] = (contract.max_concurrent, 1, _MOST)
    for name, (value, least, most) in figures.items():
        fits = isinstance(value, int) if name in _COUNTS else _is_number(value)
        if not (fits and least <= value <= most):
            limits = f"from {least:g} to {most:g}"
            raise InvalidContract(f"{contract.name}: {name}={value!r:.80} is not possible. Write a number {limits}")
    _check_codes(contract)


def _check_codes(contract: Contract) -> None:
    codes: Any = contract.retry.retry_on
    if codes is None or (isinstance(codes, tuple | list) and all(isinstance(code, str) for code in codes)):  # pyright: ignore[reportUnknownVariableType]
        return
    raise InvalidContract(f'{contract.name}: retry.retry_on={codes!r:.80} is not possible. Write ("unavailable",)')


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_template(contract: Contract) -> None:
    try:
        for role, each in (("compensation", contract.compensation), ("confirmation", contract.confirmation)):
            check(dict(each.input) if each else {}, f"/{role}_input")
    except InvalidInput as error:
        raise InvalidContract(f"{contract.name}: {error.detail}") from None


@dataclass(frozen=True, slots=True)
class Declared:
    """What the decorator was given; the rest of the contract is in the signature and the docstring."""

    version: str
    effect: Effect
    compensation: str | None
    compensation_input: Mapping[str, Any]
    confirmation: str | None
    confirmation_input: Mapping[str, Any]
    risk: Risk
    price_cents: float
    latency_ms: float
    timeout_seconds: float
    negotiation: Negotiation
    labels: tuple[str, ...]
    retry: RetryPolicy
    max_concurrent: int | None


def capability(
    *,
    version: str = "1.0",
    effect: str = "read",
    compensation: str | None = None,
    compensation_input: Mapping[str, Any] | None = None,
    confirmation: str | None = None,
    confirmation_input: Mapping[str, Any] | None = None,
    risk: str = "low",
    price_cents: float = 0,
    latency_ms: float = 10,
    timeout_seconds: float = 60,
    negotiation: str = "offers",
    labels: tuple[str, ...] = (),
    retry: RetryPolicy | None = None,
    max_concurrent: int | None = None,
) -> Callable[[Handler], Handler]:
    """Makes an async method of an `Agent` a capability.

    `effect` is `pure`, `read`, `reversible` or `irreversible`; a reversible one names its `compensation`, a method
    of the same agent (or `domain.method`). The compensation's input is taken by name from the step's input, then
    from its output, or from `compensation_input`, a template such as `{"cents": {"$from": "output.moved"}}`.

    One that only stages its effect, such as a hold on a card, names a `confirmation` too. It is called once every step
    of the plan is done, when nothing can fail any more; when the plan fails before, the compensation cancels.
    """

    def mark(handler: Handler) -> Handler:
        where = getattr(handler, "__qualname__", type(handler).__name__)
        if isinstance(labels, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidContract(f'{where}: labels are several texts. Write: labels=("{labels}",)')
        declared = Declared(
            version=".".join(map(str, major_minor(version))),
            effect=_member(Effect, effect, "effect", where),
            compensation=compensation,
            compensation_input=dict(compensation_input or {}),
            confirmation=confirmation,
            confirmation_input=dict(confirmation_input or {}),
            risk=_member(Risk, risk, "risk", where),
            price_cents=price_cents,
            latency_ms=latency_ms,
            timeout_seconds=timeout_seconds,
            negotiation=_member(Negotiation, negotiation, "negotiation", where),
            labels=tuple(labels),
            retry=retry or RetryPolicy(),
            max_concurrent=max_concurrent,
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
    bound = [_bound(each, found) for each in found.values()]
    return {each.contract.name: each for each in bound}


def _declared(cls: type, name: str) -> tuple[Callable[..., Any], Declared] | None:
    handler = inspect.getattr_static(cls, name, None)
    inner = getattr(handler, "__wrapped__", None)  # a staticmethod or classmethod hides its function's attributes
    declared = getattr(handler, "__hanse_capability__", getattr(inner, "__hanse_capability__", None))
    if not isinstance(declared, Declared):
        return _check_override(cls, name, handler)
    if not inspect.isfunction(handler):
        raise InvalidContract(f"{cls.__name__}.{name} is a {type(handler).__name__}. Write a plain async method")
    return handler, declared


def _check_override(cls: type, name: str, handler: Any) -> None:
    """A method that overrides a capability without saying so would take it away unnoticed."""
    above = (vars(base).get(name) for base in cls.__mro__)
    if callable(handler) and any(hasattr(each, "__hanse_capability__") for each in above):
        raise InvalidContract(
            f"{cls.__name__}.{name} overrides a capability and is none. Write @capability(...) above it, "
            f"or {name} = None to offer it no more"
        )


def _read(cls: type, domain: Domain, method: str, handler: Callable[..., Any], declared: Declared) -> Capability:
    where = f"{cls.__name__}.{method}"
    takes, gives, takes_context = _signature(handler, where)
    shapes = Shape(takes, f"{where}, input"), Shape(gives, f"{where}, output", "serialization")
    contract = Contract(
        name=CapabilityName(f"{domain}.{method}"),
        version=declared.version,
        effect=declared.effect,
        description=_description(handler, where),
        input_schema=shapes[0].schema,
        output_schema=shapes[1].schema,
        compensation=_compensation(declared, domain, where),
        confirmation=_confirmation(declared, domain, where),
        risk=declared.risk,
        price_cents=declared.price_cents,
        latency_ms=declared.latency_ms,
        timeout_seconds=declared.timeout_seconds,
        negotiation=declared.negotiation,
        labels=declared.labels,
        retry=declared.retry,
        max_concurrent=declared.max_concurrent,
    )
    return Capability(contract, method, *shapes, takes_context)


def _signature(handler: Callable[..., Any], where: str) -> tuple[Any, Any, bool]:
    if inspect.isasyncgenfunction(handler):
        raise InvalidContract(f"{where} yields. A capability returns once; tell of progress with context.progress(...)")
    if not inspect.iscoroutinefunction(handler):
        raise InvalidContract(f"{where} must be async. Write: async def {handler.__name__}(self, request, context)")
    hints = _hints(handler, where)
    parameters = list(inspect.signature(handler).parameters.values())[1:]
    names = [each.name for each in parameters]
    if not names or len(names) > 2:
        raise InvalidContract(f"{where} takes {len(names)} arguments. Write: (self, request: Model, context: Context)")
    if not all(each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters):
        raise InvalidContract(f"{where} is called by position. Write: (self, request: Model, context: Context), no *")
    if names[0] not in hints:
        raise InvalidContract(f"{where}: annotate {names[0]!r} with the type of its input, a pydantic model")
    if "return" not in hints:
        raise InvalidContract(f"{where}: annotate what it returns. Write: -> Model")
    return hints[names[0]], hints["return"], len(names) == 2


def _hints(handler: Callable[..., Any], where: str) -> dict[str, Any]:
    try:
        return get_type_hints(handler, include_extras=True)
    except NameError as error:
        raise InvalidContract(
            f"{where}: the annotation {error.name!r} cannot be found. "
            "Define or import it at the top of the module, and not for type checking only"
        ) from error
    except (AttributeError, SyntaxError, TypeError) as error:
        raise InvalidContract(f"{where}: an annotation cannot be read: {error}") from error


def _description(handler: Callable[..., Any], where: str) -> str:
    if text := inspect.getdoc(handler):
        return text
    raise InvalidContract(f"{where} has no docstring. Write one sentence that says what it does; planners read it.")


def _compensation(declared: Declared, domain: Domain, where: str) -> Compensation | None:
    wanted = declared.compensation
    if declared.effect is Effect.REVERSIBLE and not wanted:
        raise InvalidContract(f'{where} is reversible but names no compensation. Write: compensation="method"')
    if declared.effect is not Effect.REVERSIBLE and wanted:
        raise InvalidContract(f'{where} names a compensation but is {declared.effect}. Write: effect="reversible"')
    return _named("compensation", wanted, declared.compensation_input, domain, where) if wanted else None


def _confirmation(declared: Declared, domain: Domain, where: str) -> Compensation | None:
    wanted = declared.confirmation
    if wanted and declared.effect is not Effect.REVERSIBLE:
        raise InvalidContract(
            f"{where} names a confirmation but is {declared.effect}. What is only staged can be canceled: "
            f'write effect="reversible", compensation="method"'
        )
    return _named("confirmation", wanted, declared.confirmation_input, domain, where) if wanted else None


def _named(role: str, wanted: str, input: Mapping[str, Any], domain: Domain, where: str) -> Compensation:
    name = wanted if "." in wanted else f"{domain}.{wanted}"
    try:
        _check_name(name)
    except InvalidContract as error:
        raise InvalidContract(f'{where}: {role}={wanted!r:.80}: {error.detail}. Write "method"') from None
    return Compensation(CapabilityName(name), input)


def _bound(each: Capability, found: Mapping[str, Capability]) -> Capability:
    """The capability with the inputs of its compensation and its confirmation bound."""
    undo, confirm = each.contract.compensation, each.contract.confirmation
    bound = {"compensation": _with_input("compensation", undo, each, found)}
    bound |= {"confirmation": _with_input("confirmation", confirm, each, found)}
    return replace(each, contract=replace(each.contract, **bound))


def _with_input(
    role: str, undo: Compensation | None, each: Capability, found: Mapping[str, Capability]
) -> Compensation | None:
    """With its input bound, where it is the agent's own capability."""
    domain, _, method = (undo.capability if undo else "").partition(".")
    if undo is None or domain != each.contract.name.partition(".")[0]:
        return undo  # another domain's is checked when a plan is submitted
    other = found.get(method)
    if other is None:
        _check_spelling(role, each, found, method)
        return undo
    if not other.contract.effect.writes:
        raise InvalidContract(
            f"{each.contract.name}: its {role} {other.contract.name} is {other.contract.effect} and changes "
            f'nothing. Write effect="irreversible" above {other.method}, or name another'
        )
    return Compensation(undo.capability, bind(each.contract, other.contract, undo.input, role))


def _check_spelling(role: str, each: Capability, found: Mapping[str, Capability], method: str) -> None:
    """A near miss is a typing error. Any other name may be offered by another agent of the domain, and is looked for
    when a plan needs it: a plan that could not be undone is refused then, and `contracts check` says so before."""
    if near := difflib.get_close_matches(method, found, n=1, cutoff=0.6):
        raise InvalidContract(
            f"{each.contract.name}: there is no capability {method!r} as its {role}. Did you mean {near[0]!r}?"
        )


Kind = TypeVar("Kind", bound=StrEnum)


def _member(kind: type[Kind], text: str, option: str, where: str) -> Kind:
    try:
        return kind(text)
    except ValueError:
        known = ", ".join(kind)
        raise InvalidContract(f"{where}: {option}={text!r} is not one of {known}") from None
