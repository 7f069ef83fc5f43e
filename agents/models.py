"""The model pool as a handler or a person's program asks it: typed questions in, typed answers out.

    mood = await context.models.choose("Is the customer angry?", ["yes", "no"])
    order = await context.models.extract(Order, letter)
    reply = await context.models.complete(f"Answer this letter in two sentences: {letter}")

A model proposes; whoever asks decides what to do with it. The words around a question are the pool's prompt files
(`extract`, `extract_turns`, `choose`, `repair`), in which text from outside stands apart from the instructions, as
data. That a model obeys it all the same can be made rare and not impossible.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, Unpack

from ..contracts import InvalidInput, JsonObject, PersonNeeded, Shape, canonical
from ..contracts.pool import Answer, Ask, Correction, Judgement, Message, Piece, Postcondition, Purpose, TierView
from ..contracts.schema import fitted

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

MAX_REPAIRS = 2
"""How often an answer that has the schema's shape, and that the type refuses all the same, goes back with the error."""

Content = str | Sequence[Message]
"""A text, or the turns of a conversation."""
Value = TypeVar("Value")
Option = TypeVar("Option", bound=str)


class AskOptions(TypedDict, total=False):
    """What may be said with any question; `contracts.pool.Ask` explains each."""

    tier: str
    only: bool
    validators: Sequence[str]
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: Sequence[str]
    pure: bool
    postconditions: Sequence[Postcondition]
    shorten: bool
    pinned: Sequence[int]


class Pool(Protocol):
    """The pool on behalf of one caller: who that is, and what is left to spend, is known to it."""

    async def ask(self, ask: Ask) -> Answer: ...

    def stream(self, ask: Ask) -> AsyncIterator[Piece]: ...

    async def embed(self, texts: Sequence[str]) -> "NDArray[float32]": ...

    async def judge(self, validator: str, text: str, sources: Sequence[str] = ()) -> Judgement: ...

    async def tiers(self) -> list[TierView]: ...


class Questions:
    """What can be asked. Every question raises ModelUnavailable when no tier can answer it now, PersonNeeded when no
    tier's answer was good enough, BudgetExhausted before it spends what is not there, InvalidInput when no tier could
    ever answer it.
    """

    __slots__ = ("_pool",)

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def complete(
        self, content: Content, *, system: str = "", sources: Sequence[str] = (), **options: Unpack[AskOptions]
    ) -> str:
        """Free text. `system` says how, `content` what; `sources` are what the answer must be supported by, and stand
        in `content` too where the model is to read them.
        """
        asked = _ask(Purpose.COMPLETE, options, messages=_messages(content, system), sources=tuple(sources))
        return (await self._pool.ask(asked)).text

    async def choose(
        self,
        question: str,
        options: Iterable[Option],
        *,
        sources: Sequence[str] = (),
        **more: Unpack[AskOptions],
    ) -> Option:
        """One of the given texts, or one member of a `StrEnum`: `choose("…", ["yes", "no"])`, `choose("…", Mood)`.

        `sources` are what the decision rests on; text from outside belongs there, and not into the question.
        """
        known = {str(option): option for option in options}
        if not known:
            raise InvalidInput("there is nothing to choose from")
        choices = "\n".join(f"- {name}" for name in known)
        inputs = {"question": question, "choices": choices, "sources": _together(sources)}
        about = {"answer": {"type": "string", "enum": list(known)}, "sources": tuple(sources)}
        ask = _ask(Purpose.CHOOSE, more, prompt="choose", inputs=inputs, **about)
        return await self._typed(ask, lambda data: _chosen(data, known), "is one of the options")

    async def extract(
        self,
        type: type[Value],
        content: Content,
        *,
        task: str = "",
        sources: Sequence[str] | None = None,
        **options: Unpack[AskOptions],
    ) -> Value:
        """An instance of a pydantic model, a dataclass or another JSON type, taken from the text.

        `task` says in words what to take: all that the type has when left out. `sources` are what the answer must be
        supported by: the text itself when left out. An answer that the type's own validators refuse goes back with the
        error, twice at most.
        """
        shape = Shape(type, "models.extract")
        given = sources if sources is not None else ((content,) if isinstance(content, str) else ())
        about = {"answer": shape.schema, "sources": tuple(given)}
        ask = _ask(Purpose.EXTRACT, options, **_extraction(content, task, shape.schema), **about)
        return await self._typed(ask, shape.load, f"is a {getattr(type, '__name__', type)}")

    async def embed(self, texts: Sequence[str]) -> "NDArray[float32]":
        """Vectors of length one, in the shape (texts, dimensions)."""
        return await self._pool.embed(texts)

    async def judge(self, validator: str, text: str, sources: Sequence[str] = ()) -> Judgement:
        """What a validator thinks of a text. It advises; nothing may rely on it as on a wall. Raises NotFound."""
        return await self._pool.judge(validator, text, sources)

    async def ask(self, ask: Ask) -> Answer:
        """Anything else, with the whole answer: tools, scores, attempts, cost."""
        return await self._pool.ask(ask)

    def stream(self, ask: Ask) -> AsyncIterator[Piece]:
        """The pieces of an answer as they come. The last one carries the whole."""
        return self._pool.stream(ask)

    async def tiers(self) -> list[TierView]:
        """How each tier is."""
        return await self._pool.tiers()

    async def _typed(self, ask: Ask, read: Callable[[Any], Value], wanted: str) -> Value:
        """The answer as a value. A schema cannot say everything that a type can, so here it may be asked again."""
        for left in reversed(range(MAX_REPAIRS + 1)):
            answer = await self._pool.ask(ask)
            try:
                return read(answer.data)
            except InvalidInput as error:
                if not left:
                    raise PersonNeeded(
                        f"none of {MAX_REPAIRS + 1} answers {wanted}: {error.detail}", call=answer.id, tier=answer.tier
                    ) from None
                correction = Correction(answer=answer.text, problem=error.detail)
                ask = ask.model_copy(update={"correction": correction})
        raise AssertionError("unreachable")


def _ask(purpose: Purpose, options: AskOptions, **more: Any) -> Ask:
    """Raises InvalidInput for options that are none."""
    return fitted(Ask, {"purpose": purpose, **options, **more})


def _messages(content: Content, system: str) -> tuple[Message, ...]:
    turns = (Message(role="user", content=content),) if isinstance(content, str) else tuple(content)
    return (Message(role="system", content=system), *turns) if system else turns


def _extraction(content: Content, task: str, schema: JsonObject) -> JsonObject:
    """A text goes into the prompt file; a conversation keeps its turns."""
    inputs = {"task": task} if task else {}
    if not isinstance(content, str):
        return {"prompt": "extract_turns", "inputs": inputs, "messages": tuple(content)}
    return {"prompt": "extract", "inputs": inputs | {"schema": canonical(schema).decode(), "sources": content}}


def _together(texts: Sequence[str]) -> str:
    return "\n\n".join(texts)


def _chosen(data: Any, known: dict[str, Option]) -> Option:
    if not isinstance(data, str) or data not in known:
        raise InvalidInput(f"{data!r} is none of the options: {', '.join(map(repr, known))}")
    return known[data]
