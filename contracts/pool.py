"""What is said to the model pool and what it answers: asks, answers, what they cost, and how a tier is.

Messages and tools have the shapes of OpenAI's chat completions, which every client knows. Money is in cents, time in
milliseconds, and a score is the calibrated probability that what it names is the case.
"""

from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .caller import Caller
from .ids import Digest, Tenant
from .schema import JsonObject

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ToolCall(Value):
    """A call of a tool that a model proposes."""

    id: str
    name: str
    arguments: str
    """JSON text, exactly as the model wrote it."""


class Message(Value):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """In an answer of a tool: the call that it answers."""


class Tool(Value):
    """A function that a model may propose to call."""

    name: str
    description: str = ""
    parameters: JsonObject = Field(default_factory=dict[str, Any])


class Purpose(StrEnum):
    """What the answer is for: it decides which validators look at it."""

    COMPLETE = "complete"
    """free text"""
    CHOOSE = "choose"
    """one of some given texts"""
    EXTRACT = "extract"
    """data in the shape of a schema, taken from given sources"""
    CHAT = "chat"
    """a conversation of a client outside"""


class Postcondition(Value):
    """What must hold of the answer's data besides its schema."""

    at: str
    """JSON pointer (RFC 6901) into the answer."""
    rule: Literal["equals", "at_least", "at_most", "sum_of", "in_sources", "unique"]
    value: Any = None
    """What to compare with: a value, or `{"$at": pointer}` for another place of the answer. For `sum_of` a list of
    pointers; `in_sources` (its text stands word for word in a source) and `unique` (no member twice) need none."""


class Correction(Value):
    """An answer that was given before and cannot be used."""

    answer: str
    problem: str
    """What is wrong with it."""


class Ask(Value):
    """One question to the pool."""

    messages: tuple[Message, ...] = ()
    """At least one, or none where `prompt` and `inputs` say from what the pool makes them. With both, these follow the
    prompt's own: instructions first, then a conversation."""
    purpose: Purpose = Purpose.COMPLETE
    answer: JsonObject | None = None
    """JSON Schema of the answer, which then is JSON. None for text."""
    tools: tuple[Tool, ...] = ()
    tool_choice: str | JsonObject | None = None
    tier: str | None = None
    """Where to begin. None lets the router choose."""
    only: bool = False
    """Nothing but that tier: no escalation, no fallback."""
    validators: tuple[str, ...] | None = None
    """By name; None takes those that the policy names for the purpose, empty none. Those that it requires look all the
    same, and so do those of the purpose that guard what goes in."""
    sources: tuple[str, ...] = ()
    """What the answer must be supported by."""
    postconditions: tuple[Postcondition, ...] = ()
    max_tokens: int = Field(default=512, ge=1)
    temperature: float = Field(default=0, ge=0, le=2, allow_inf_nan=False)
    top_p: float = Field(default=1, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    pure: bool = False
    """The same words always deserve the same answer, so one that was given before may be given again."""
    prompt: str | None = None
    """`name@version` of the prompt file that the messages were made from, or with `inputs` are to be made from.
    `name` alone is its current version."""
    inputs: dict[str, str] | None = None
    """What the prompt file is filled with."""
    correction: Correction | None = None
    """The tier sees it, in the words of the prompt file `repair`."""
    pinned: tuple[int, ...] = ()
    """Places of messages that stay when a conversation is shortened. System messages and the last turn always do."""
    shorten: bool = False
    """A conversation that does not fit a tier's context window may lose turns of its middle."""

    @model_validator(mode="after")
    def _says_something(self) -> "Ask":
        if not self.messages and self.inputs is None:
            raise ValueError("an ask has messages, or a prompt with inputs")
        if self.inputs is not None and not self.prompt:
            raise ValueError("inputs belong to a prompt: name it")
        return self


class Usage(Value):
    """What a call took."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cents: float = 0
    latency_ms: float = 0
    """From the pool's taking the ask to its answer, queueing included."""


class Cached(StrEnum):
    """Whether the answer was there already."""

    NO = "no"
    EXACT = "exact"
    SEMANTIC = "semantic"


class Attempt(Value):
    """What one tier made of the ask."""

    tier: str
    model: Digest | str
    """Digest of the weights that answered."""
    outcome: Literal["accepted", "rejected", "failed"]
    reason: str = ""
    scores: dict[str, float] = Field(default_factory=dict[str, float])
    usage: Usage = Usage()
    answer: str = ""
    """Digest of what it wrote; `Administration.text` gives it, also when it was refused."""


class Answer(Value):
    """What the pool says."""

    id: str
    """Of the call, in the pool's journal."""
    text: str = ""
    data: Any = None
    """The parsed answer, where the ask had a schema."""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    tier: str = ""
    model: Digest | str = ""
    usage: Usage = Usage()
    """Of all attempts together."""
    scores: dict[str, float] = Field(default_factory=dict[str, float])
    cached: Cached = Cached.NO
    attempts: tuple[Attempt, ...] = ()


class Piece(Value):
    """A part of an answer that is being written. The last one carries the whole answer."""

    text: str = ""
    tool_calls: tuple[JsonObject, ...] = ()
    """Deltas in OpenAI's shape."""
    answer: Answer | None = None


class Judgement(Value):
    """What a validator thinks. It advises; policy decides."""

    validator: str
    score: float = Field(ge=0, le=1, allow_inf_nan=False)
    """Probability that something is wrong."""
    reason: str = ""


class TierState(StrEnum):
    """How a tier is."""

    ABSENT = "absent"
    """cannot be: no weights, no engine; `remedy` says what to do"""
    WAITING = "waiting"
    """for room or for its turn"""
    WARMING = "warming"
    READY = "ready"
    DEGRADED = "degraded"
    """its breaker is open, or replicas are missing"""
    BROKEN = "broken"


class TierView(BaseModel):
    """One tier as `hanse models` shows it."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    name: str
    kind: str
    """`generate`, `embed` or `classify`"""
    state: TierState
    model: str = ""
    digest: str = ""
    progress: float = 0
    """In [0, 1], while it is warming."""
    detail: str = ""
    remedy: str = ""
    replicas: int = 0
    queued: int = 0
    in_flight: int = 0
    context_window: int = 0
    instead: str = ""
    """Of a tier that could embed and does not: the one that does."""
    validators: tuple[str, ...] = ()
    """Of a tier that classifies: those that judge by it."""
    cents_per_1k_prompt: float = 0
    cents_per_1k_completion: float = 0
    calls: int = 0
    tokens: int = 0
    cents: float = 0


class Embedder(Protocol):
    """Texts to vectors of unit length."""

    @property
    def digest(self) -> Digest:
        """Of weights and settings: vectors of different digests cannot be compared."""
        ...

    @property
    def dimensions(self) -> int: ...

    async def embed(self, texts: Sequence[str], *, interactive: bool = False) -> "NDArray[float32]":
        """Shape (texts, dimensions), C order, each row of length one. Raises ModelUnavailable, TooLarge."""
        ...


class Models(Protocol):
    """The pool as its users see it. Every method raises ModelUnavailable when no tier can answer, BudgetExhausted
    before it spends what is not there, InvalidInput for an ask that cannot be answered by any tier.
    """

    async def ask(self, ask: Ask, caller: Caller) -> Answer: ...

    def stream(self, ask: Ask, caller: Caller) -> AsyncIterator[Piece]: ...

    async def embed(self, texts: Sequence[str], caller: Caller) -> "NDArray[float32]": ...

    async def judge(self, validator: str, text: str, caller: Caller, sources: Sequence[str] = ()) -> Judgement:
        """Raises NotFound, naming the validators there are."""
        ...

    async def tiers(self) -> list[TierView]: ...


class CallView(BaseModel):
    """One call as the pool's journal tells it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    at_ms: int
    tenant: Tenant
    by: str = ""
    task: str | None = None
    step: str | None = None
    agent: str | None = None
    capability: str | None = None
    purpose: str = ""
    """Of the ask; `judge` where one validator, which is then the tier, was asked about a text."""
    template: str | None = None
    """The prompt file and its version."""
    prompt: str = ""
    """Digest of what was asked; `Administration.text` gives it."""
    answer: str = ""
    """Digest of what was answered; empty when nothing was."""
    outcome: str = ""
    """`accepted`, or the code of the error that ended it."""
    tier: str = ""
    model: str = ""
    cached: Cached = Cached.NO
    scores: dict[str, float] = Field(default_factory=dict[str, float])
    usage: Usage = Usage()
    attempts: tuple[Attempt, ...] = ()


class UsageView(BaseModel):
    """What was used of one tier on one day."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant: Tenant
    day: str
    """In UTC, as `2026-11-21`."""
    task: str = ""
    """Empty where the caller had none, or where figures of many tasks are summed."""
    tier: str = ""
    """Empty for answers that were there already."""
    calls: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cents: float = 0


class CacheView(BaseModel):
    """How the caches of one tenant stand."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tenant: Tenant
    exact: int = 0
    """Answers kept for the same words."""
    semantic: int = 0
    """Answers kept for words of the same meaning."""
    bytes: int = 0
    exact_hits: int = 0
    semantic_hits: int = 0
    misses: int = 0


class PromptView(BaseModel):
    """One version of a prompt file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    version: str
    digest: Digest
    inputs: dict[str, str] = Field(default_factory=dict[str, str])
    """Name to what it is."""
    current: bool = False
    shadow: bool = False
    """It runs beside the current one; what it says is journaled and never returned."""


class Administration(Models, Protocol):
    """What the pool's keepers may do beyond asking."""

    async def calls(self, tenant: Tenant, limit: int = 50, before: str | None = None) -> list[CallView]:
        """Newest first; `before` is the id of the last one seen."""
        ...

    async def text(self, tenant: Tenant, digest: str) -> str:
        """A prompt (as JSON) or an answer by its digest. Raises NotFound, also for what was forgotten by now."""
        ...

    async def usage(self, tenant: Tenant, days: int = 1, *, by_task: bool = False) -> list[UsageView]:
        """Of the last `days` days, today included."""
        ...

    async def caches(self, tenant: Tenant | None = None) -> list[CacheView]: ...

    async def purge(self, tenant: Tenant | None, by: str) -> int:
        """Empties the caches of a tenant, or all of them. How many answers were forgotten."""
        ...

    async def prompts(self) -> list[PromptView]: ...
