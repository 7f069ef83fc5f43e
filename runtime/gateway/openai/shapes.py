"""What OpenAI's clients read, as the description of the surface shows it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ....contracts import Problem
from ....contracts.pool import Attempt, Cached, TierView
from ....contracts.pool import Usage as PoolUsage


class _Given(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelShape(_Given):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    hanse: TierView | None = None


class ModelPage(_Given):
    object: Literal["list"]
    data: list[ModelShape]


class TokenUsage(_Given):
    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int


class CallShape(_Given):
    id: str
    type: Literal["function"]
    function: dict[str, str]


class MessageShape(_Given):
    role: Literal["assistant"]
    content: str | None
    refusal: None = None
    tool_calls: list[CallShape] | None = None


class Choice(_Given):
    index: int
    message: MessageShape
    logprobs: None = None
    finish_reason: str


class CallReport(_Given):
    """What the pool says of the call."""

    id: str
    tier: str
    model: str
    usage: PoolUsage
    scores: dict[str, float] = Field(default_factory=dict[str, float])
    cached: Cached
    attempts: list[Attempt]


class CompletionShape(_Given):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str | None = None
    choices: list[Choice]
    usage: TokenUsage
    hanse: CallReport


class EmbeddingShape(_Given):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """Numbers, or the bytes of little-endian float32 in base64."""


class EmbeddingPage(_Given):
    object: Literal["list"]
    data: list[EmbeddingShape]
    model: str
    usage: TokenUsage
    """An estimate, never too low: three characters make a token."""


class ScoreShape(_Given):
    object: Literal["score"]
    index: int
    score: float
    """Calibrated probability that something is wrong."""
    reason: str = ""


class ScorePage(_Given):
    id: str
    object: Literal["list"]
    created: int
    data: list[ScoreShape]
    model: str
    usage: TokenUsage
    """As for embeddings; each text is counted with its sources."""


class ErrorShape(_Given):
    message: str
    type: str
    param: str | None
    code: str
    hanse: Problem


class OpenAiError(_Given):
    """An error as OpenAI's clients read it, with what Hanse says of it."""

    error: ErrorShape
