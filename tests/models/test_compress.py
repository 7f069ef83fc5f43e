"""A conversation that is made to fit: what must stay stays, in its order, and the same always comes of the same."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts.pool import Message, ToolCall
from hanse.models.compress import MARK, shorten


def count(messages: Sequence[Message]) -> int:
    return sum(len(each.content or "") // 4 + 1 for each in messages)


def user(text: str) -> Message:
    return Message(role="user", content=text)


RULES = Message(role="system", content="Be brief. Be kind. Never lie. Stay calm. Answer at once.")
LONG = (
    "We spoke of the weather. It was fine. Order W-17 costs 995 cents. Then we laughed. Nobody knew why. So it goes. "
)


def talk(turns: int) -> list[Message]:
    return [RULES, *(user(f"Turn {n}. {LONG}") for n in range(turns))]


def test_what_fits_stays_as_it_is():
    messages = talk(3)
    assert shorten(messages, 10_000, count).messages == tuple(messages)


def test_older_turns_are_condensed_before_any_is_left_out():
    messages = talk(6)
    result = shorten(messages, count(messages) - 60, count)
    assert (result.dropped, result.condensed) == (0, 4)
    assert result.messages[0] == RULES
    assert result.messages[-2:] == tuple(messages[-2:])
    assert (result.messages[1].content or "").startswith(MARK)


def test_what_carries_most_is_kept_word_for_word():
    result = shorten(talk(6), count(talk(6)) - 60, count)
    condensed = (result.messages[1].content or "").removeprefix(MARK)
    assert "Order W-17 costs 995 cents." in condensed
    assert all(sentence in f"Turn 0. {LONG}" for sentence in condensed.split(" … "))


def test_what_must_stay_stays_even_when_it_does_not_fit():
    messages = talk(4)
    result = shorten(messages, 1, count, pinned=(2,))
    assert result.messages == (RULES, messages[2], messages[-1])
    assert result.tokens == count(result.messages) > 1


def test_a_tools_answer_goes_with_its_call():
    call = Message(role="assistant", tool_calls=(ToolCall(id="c1", name="look", arguments="{}"),))
    answer = Message(role="tool", content=LONG * 3, tool_call_id="c1")
    result = shorten([user("first"), call, answer, user("then"), user("last")], 5, count)
    assert call not in result.messages
    assert all(each.role != "tool" for each in result.messages)


@given(
    st.lists(st.sampled_from(["system", "user", "assistant"]), min_size=1, max_size=12),
    st.integers(0, 400),
    st.sets(st.integers(0, 11)),
    st.data(),
)
def test_it_fits_or_only_what_must_stay_is_left(roles: list[str], room: int, pinned: set[int], data: st.DataObject):
    lengths = data.draw(st.lists(st.integers(0, 6), min_size=len(roles), max_size=len(roles)))
    pairs = zip(roles, lengths, strict=True)
    messages = [Message(role=role, content=f"{at}. " + LONG * length) for at, (role, length) in enumerate(pairs)]  # type: ignore[arg-type]
    result = shorten(messages, room, count, pinned)
    again = shorten(messages, room, count, pinned)
    assert result == again
    kept = {(each.content or "").removeprefix(MARK).partition(".")[0] for each in result.messages}
    must = {at for at, each in enumerate(messages) if each.role == "system" or at in pinned} | {len(messages) - 1}
    assert {str(at) for at in must} <= kept
    assert all(messages[at] in result.messages for at in must)
    assert result.tokens <= room or result.messages == tuple(messages[at] for at in sorted(must))
