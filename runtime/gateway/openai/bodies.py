"""What OpenAI's clients send, as closed models: what cannot be done is refused by name, and never silently left out."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ....contracts import JsonObject
from ....contracts.pool import Correction, Purpose

ANY = "hanse"
"""The model's name with which a client lets the router choose."""
MAX_INPUTS = 2048


def _only_text(value: Any) -> Any:
    """Content in parts, as one text."""
    return "".join(map(_text, value)) if isinstance(value, list) else value


def _text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise PydanticCustomError("parts", "only parts of the type text can be read")
    return text


def _many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Text = Annotated[str | None, BeforeValidator(_only_text)]
Texts = Annotated[list[str], BeforeValidator(_many)]


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FunctionCall(Body):
    name: str
    arguments: str


class ProposedCall(Body):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Turn(Body):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text = None
    name: str | None = None
    tool_calls: list[ProposedCall] | None = None
    tool_call_id: str | None = None
    refusal: Text = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Turn":
        if self.content is None and not self.tool_calls:
            raise PydanticCustomError("content", "a message has content, or it proposes tool calls")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise PydanticCustomError("tool_call_id", "tool_call_id goes with the role tool, and it with that")
        return self


class Function(Body):
    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class ToolBody(Body):
    type: Literal["function"]
    function: Function


class NamedSchema(Body):
    name: str = "answer"
    description: str | None = None
    schema_: JsonObject = Field(default_factory=dict[str, Any], alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _schema_is_there(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise PydanticCustomError("json_schema", "json_schema goes with the type json_schema, and it with that")
        return self


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class Extension(Body):
    """What Hanse's pool can do beyond, as `extra_body={"hanse": {…}}`. Every part of it may be left out."""

    purpose: Purpose = Purpose.CHAT
    sources: list[str] = Field(default_factory=list[str])
    """What the answer must be supported by."""
    postconditions: list[JsonObject] = Field(default_factory=list[JsonObject])
    """What must hold of the answer's data, as `{"at": "/total", "rule": "at_most", "value": 500}`."""
    validators: list[str] | None = None
    """Instead of those that the policy names for the purpose. Those that it requires look all the same, and so do those
    of the purpose that guard what goes in."""
    pure: bool = False
    """The same words always deserve the same answer, so one that was given before may be given again."""
    only: bool | None = None
    """No other tier than the named one. True when left out and a tier is named."""
    prompt: str | None = None
    inputs: dict[str, str] | None = None
    """What the prompt file is filled with; `messages`, if there are any, follow its own."""
    correction: Correction | None = None
    """An answer that was given before, and what is wrong with it: `{"answer": "12", "problem": "it is too low"}`."""
    pinned: list[int] = Field(default_factory=list[int])
    shorten: bool = False
    """A conversation that does not fit the context window may lose turns of its middle."""
    budget_cents: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    deadline_seconds: float | None = Field(default=None, gt=0, le=86400, allow_inf_nan=False)
    labels: list[str] = Field(default_factory=list[str])
    """What is known of the data: `private`, `untrusted`."""


class Chat(Body):
    """The body of `POST /v1/chat/completions`."""

    model: str = Field(min_length=1, max_length=200)
    """A tier's name, or `hanse` to let the router choose."""
    messages: list[Turn] = Field(default_factory=list[Turn], max_length=4096)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = None
    stop: Annotated[list[str] | None, BeforeValidator(_many)] = Field(default=None, max_length=4)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[ToolBody] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | JsonObject | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    """`priority` goes before work that nobody watches, `flex` after what somebody does. A stream is watched."""
    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logit_bias: None = None
    modalities: list[Literal["text"]] | None = None
    store: Literal[False] | None = None
    user: str | None = None
    """Taken and not looked at, like the next three: they say things to a service that this is not."""
    metadata: JsonObject | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    hanse: Extension = Extension()

    @model_validator(mode="after")
    def _fits_together(self) -> "Chat":
        if not self.messages and self.hanse.inputs is None:
            raise PydanticCustomError("messages", "write messages, or a prompt with inputs")
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("stream_options", "stream_options go with stream: true")
        if self.tool_choice is not None and not self.tools:
            raise PydanticCustomError("tool_choice", "tool_choice goes with tools")
        return self


class Embeddings(Body):
    """The body of `POST /v1/embeddings`."""

    model: str = Field(min_length=1, max_length=200)
    input: Texts = Field(min_length=1, max_length=MAX_INPUTS)
    """One text or several. Tokens, as numbers, are not taken: they belong to somebody else's tokenizer."""
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None


class Score(Body):
    """The body of `POST /v1/score`, in vLLM's words: what is judged, and what it should be supported by."""

    model: str = Field(min_length=1, max_length=200)
    """A validator's name."""
    text_1: Texts = Field(min_length=1, max_length=MAX_INPUTS)
    """One text or several, each judged on its own."""
    text_2: Texts = Field(default_factory=list[str], max_length=MAX_INPUTS)
    """Sources, the same for all."""
    user: str | None = None
