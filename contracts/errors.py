"""What can go wrong, drawn as a tree. The branch carries the verdict: whoever handles an error asks its type.

    HanseError
    ├── Transient            retry with backoff, then award to another agent
    │   ├── Unavailable      nobody who could do it is reachable
    │   ├── Overloaded       a queue is full; says when to come again
    │   ├── TimedOut         no answer in time, and nothing can have happened
    │   └── Conflict         somebody else changed the state meanwhile
    ├── Permanent            will fail again: abort the plan and compensate
    │   ├── InvalidInput     the input does not fit the schema
    │   ├── InvalidPlan      the plan cannot be run at all
    │   ├── InvalidContract  the capability's declaration is not a contract
    │   ├── InvalidConfiguration
    │   ├── NotFound
    │   ├── KeyReused        an idempotency key came back with another body
    │   ├── TooLarge
    │   ├── NotAuthenticated
    │   ├── DeadlineExceeded
    │   ├── Canceled
    │   └── Failed           a handler raised something of its own
    ├── PolicyError          a rule says no: abort the plan and compensate
    │   ├── Refusal          a rule of the domain; agents derive their own from it
    │   ├── NotAllowed
    │   ├── TokenInvalid
    │   ├── NotCleared       labelled data would go outward, and nobody has said that it may
    │   ├── ApprovalDenied
    │   ├── ApprovalExpired
    │   ├── DigestMismatch   what was approved is not what would run
    │   └── LoopDetected     a plan makes the same call again and again
    ├── BudgetExhausted      stop spending: abort the plan and compensate
    ├── ContractBreach       the agent did not keep its promise: award to another agent
    ├── ModelUnavailable     no tier of the pool can answer
    ├── PersonNeeded         no tier's answer was good enough: a person has to answer
    ├── OutcomeUnknown       it may or may not have happened: ask the outside system, then a person
    └── StorageError         the writer must stop and recover from disk
        ├── Fenced           a higher epoch owns the store
        └── Corrupt          what is on disk is not what was written

Every error carries the ids it is about as keywords, travels as plain data (`to_data`, `from_data`), and never
needs its text parsed.

A subclass of one's own names its `code`, which no other error may have, because the code is what arrives. One without
a code travels as its parent.
"""

import sys
from collections.abc import Iterable, Mapping
from enum import StrEnum
from math import isfinite
from typing import Any, ClassVar, Self, cast


class Verdict(StrEnum):
    """What the coordinator does about an error."""

    RETRY = "retry"
    REAUCTION = "reauction"
    ABORT = "abort"
    RECONCILE = "reconcile"
    STOP = "stop"


MAX_TEXT = 10_000
"""Characters of a detail or an id that travel. An error is about something; it is not the thing."""
MAX_PAUSE_SECONDS = 3600
"""That whoever failed may ask for. Who is unwell for longer is asked again every hour."""

_by_code: dict[str, type["HanseError"]] = {}


class HanseError(Exception):
    """Something Hanse knows how to name."""

    code: ClassVar[str] = "error"
    verdict: ClassVar[Verdict] = Verdict.ABORT
    status: ClassVar[int] = 500

    def __init__(self, detail: str = "", **ids: Any) -> None:
        self.detail = detail or " ".join((self.__doc__ or self.code).split())
        self.ids = ids
        super().__init__(self.detail)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" in vars(cls):
            _register(cls)

    def __str__(self) -> str:
        about = ", ".join(f"{name}={value}" for name, value in self.ids.items() if not isinstance(value, (dict, list)))
        return f"{self.detail} ({about})" if about else self.detail

    @property
    def title(self) -> str:
        return type(self).__name__

    def to_data(self) -> dict[str, Any]:
        """Plain data for the wire and the journal, whatever the ids are.

        For a leaf that only its author's process knows, `base` names the nearest error that every process knows, and
        `verdict` and `status` travel where they differ from the base's.
        """
        data = {
            "code": self.code,
            "branch": _branch(type(self)).code,
            "detail": _text(self.detail),
            "ids": _plain_ids(self.ids),
        }
        return data | self._what_the_base_does_not_say()

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "HanseError":
        """The error that `to_data` wrote. A leaf this process does not know becomes its base, with its own code."""
        known = _by_code.get(str(data.get("code")))
        cls = known or _by_code.get(str(data.get("base"))) or _by_code.get(str(data.get("branch"))) or HanseError
        error = cls.__new__(cls)
        HanseError.__init__(error, str(data.get("detail") or ""))  # a subclass may want arguments of its own
        error.ids = _mapping(data.get("ids"))
        if known is None:
            error._keep(data)
        return error

    def _what_the_base_does_not_say(self) -> dict[str, Any]:
        base = _base(type(self))
        if base.code == self.code:
            return {}
        own = {"verdict": (str(self.verdict), base.verdict), "status": (self.status, base.status)}
        return {"base": base.code} | {name: mine for name, (mine, its) in own.items() if mine != its}

    @property
    def pause_seconds(self) -> float:
        """How long whoever failed asks to be left alone, by `retry_after_seconds` among the ids: 0 when it does not
        say, and an hour at most.
        """
        asked: Any = self.ids.get("retry_after_seconds")
        known = isinstance(asked, int | float) and not isinstance(asked, bool) and isfinite(asked)
        return min(max(0.0, asked), MAX_PAUSE_SECONDS) if known else 0.0

    def _keep(self, data: Mapping[str, Any]) -> None:
        """Sets on the instance what its class would say, were it known here."""
        own: dict[str, Any] = {"code": str(data.get("code") or HanseError.code)}
        if data.get("verdict") in tuple(Verdict):
            own["verdict"] = Verdict(data["verdict"])
        if isinstance(data.get("status"), int):
            own["status"] = data["status"]
        self.__dict__.update(own)

    def about(self, **ids: Any) -> Self:
        """Adds ids that only an outer layer knows. Ids already there stay."""
        self.ids = {**ids, **self.ids}
        return self


def _branch(cls: type[HanseError]) -> type[HanseError]:
    """The ancestor just below the root: `policy` for every refusal."""
    line = [ancestor for ancestor in cls.__mro__ if issubclass(ancestor, HanseError)]
    return line[-2] if len(line) > 1 else line[-1]


def _base(cls: type[HanseError]) -> type[HanseError]:
    """The nearest ancestor of this file, whose code every process knows."""
    return next(ancestor for ancestor in cls.__mro__ if issubclass(ancestor, HanseError) and _is_ours(ancestor))


def _is_ours(cls: type[HanseError]) -> bool:
    return cls.__module__ == __name__


def _register(cls: type[HanseError]) -> None:
    taken = _by_code.get(cls.code)
    if taken is not None and not _is_again(taken, cls):
        raise InvalidContract(
            f"the code {cls.code!r} of {cls.__qualname__} is taken by {taken.__module__}.{taken.__qualname__}. "
            f'Write one of its own, such as code = "domain.{cls.code}", or none to travel as its parent.'
        )
    _by_code[cls.code] = cls


def _is_again(taken: type[HanseError], cls: type[HanseError]) -> bool:
    """Whether a module is loaded a second time: reloaded, as `__main__` and under its name, or by two paths."""
    modules = {taken.__module__, cls.__module__}
    return taken.__qualname__ == cls.__qualname__ and (
        len(modules) == 1 or ("__main__" in modules and not _is_ours(taken)) or _file_of(taken) == _file_of(cls) != ""
    )


def _file_of(cls: type) -> str:
    return getattr(sys.modules.get(cls.__module__), "__file__", None) or ""


def _mapping(value: Any) -> dict[str, Any]:
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else {}


def _plain_ids(ids: Mapping[str, Any]) -> dict[str, Any]:
    return {_text(name): _plain(value, 8) for name, value in ids.items()}


def _plain(value: Any, depth: int) -> Any:
    """As much of a value as JSON and msgpack carry, text for the rest: an error must not fail to travel."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(1 << 63) <= value < 1 << 63 else _text(hex(value))
    if isinstance(value, float):
        return float(value) if isfinite(value) else str(value)
    if isinstance(value, Mapping) and depth:
        items = cast("Mapping[Any, Any]", value).items()
        return {_text(name): _plain(each, depth - 1) for name, each in items}
    if isinstance(value, (list, tuple, set, frozenset)) and depth:
        return [_plain(each, depth - 1) for each in cast("Iterable[Any]", value)]
    return _text(value)


def _text(value: Any) -> str:
    try:
        text = str(value)
    except Exception:  # somebody's __str__, or Python's recursion limit
        text = f"<{type(value).__name__}>"
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


class Transient(HanseError):
    """It did not work this time and nothing was changed."""

    code = "transient"
    verdict = Verdict.RETRY
    status = 503


class Unavailable(Transient):
    """Nobody who could do this can be reached now."""

    code = "unavailable"


class Overloaded(Transient):
    """The queue is full. `retry_after_seconds` says when to come again."""

    code = "overloaded"
    status = 429

    @property
    def retry_after_seconds(self) -> float:
        return self.pause_seconds if "retry_after_seconds" in self.ids else 1.0


class TimedOut(Transient):
    """No answer came in time, and nothing can have happened."""

    code = "timed_out"
    status = 504


class Conflict(Transient):
    """Somebody else changed the same state meanwhile."""

    code = "conflict"
    status = 409


class Permanent(HanseError):
    """It will fail the same way again."""

    code = "permanent"
    status = 422


class InvalidInput(Permanent):
    """The input does not fit the schema. `pointer` says where."""

    code = "invalid_input"


class InvalidPlan(Permanent):
    """The plan cannot be run. `pointer` says where and the detail what to write."""

    code = "invalid_plan"


class InvalidContract(Permanent):
    """The capability's declaration is not a contract. The detail says what to write."""

    code = "invalid_contract"


class InvalidConfiguration(Permanent):
    """The configuration cannot be used. The detail names the line and the nearest known key."""

    code = "invalid_configuration"


class NotFound(Permanent):
    """There is no such thing, or it belongs to somebody else."""

    code = "not_found"
    status = 404


class KeyReused(Permanent):
    """This idempotency key was used before with another body."""

    code = "key_reused"
    status = 409


class TooLarge(Permanent):
    """The body or the plan is over the limit."""

    code = "too_large"
    status = 413


class NotAuthenticated(Permanent):
    """No valid bearer token came with the request."""

    code = "not_authenticated"
    status = 401


class DeadlineExceeded(Permanent):
    """The task's deadline passed before it was done."""

    code = "deadline_exceeded"
    status = 504


class Canceled(Permanent):
    """Somebody canceled the task."""

    code = "canceled"
    status = 409


class Failed(Permanent):
    """A handler raised an error of its own."""

    code = "failed"
    status = 500


class PolicyError(HanseError):
    """A rule says no."""

    code = "policy"
    status = 403


class Refusal(PolicyError):
    """A rule of the domain says no. Agents derive their own refusals from this, each with its `code`."""

    code = "refused"
    status = 422


class NotAllowed(PolicyError):
    """The policy does not allow this."""

    code = "not_allowed"


class TokenInvalid(PolicyError):
    """The token does not cover this step."""

    code = "token_invalid"


class NotCleared(PolicyError):
    """What is labelled would go outward, and nobody has said that it may."""

    code = "not_cleared"


class ApprovalDenied(PolicyError):
    """A person said no."""

    code = "approval_denied"


class ApprovalExpired(PolicyError):
    """Nobody decided in time. Expiry never grants."""

    code = "approval_expired"


class DigestMismatch(PolicyError):
    """What was seen is not what would run."""

    code = "digest_mismatch"
    status = 409


class LoopDetected(PolicyError):
    """A plan makes the same call with the same input again and again."""

    code = "loop_detected"
    status = 409


class BudgetExhausted(HanseError):
    """The budget does not cover this."""

    code = "budget_exhausted"
    status = 402


class ContractBreach(HanseError):
    """The agent's answer does not fit its contract."""

    code = "contract_breach"
    verdict = Verdict.REAUCTION
    status = 502


class ModelUnavailable(HanseError):
    """No tier of the model pool can answer."""

    code = "model_unavailable"
    verdict = Verdict.RETRY
    status = 503


class PersonNeeded(HanseError):
    """No tier of the model pool gave an answer that was accepted. A person has to answer.

    `call` names it in the pool's journal, `reasons` what was wrong with each attempt.
    """

    code = "person_needed"
    status = 422


class OutcomeUnknown(HanseError):
    """It may or may not have happened. Nobody may simply try again."""

    code = "outcome_unknown"
    verdict = Verdict.RECONCILE
    status = 502


class StorageError(HanseError):
    """The store cannot be written. The writer stops and recovers from disk."""

    code = "storage"
    verdict = Verdict.STOP
    status = 503


class Fenced(StorageError):
    """A higher epoch owns the store."""

    code = "fenced"


class Corrupt(StorageError):
    """What is on disk is not what was written."""

    code = "corrupt"
