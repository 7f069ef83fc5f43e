"""The bytes between parties: yesterday's are read, today's are the same, and foreign ones are Corrupt."""

import inspect
import random
import threading
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import Corrupt, Epoch, Event, Kind, Sequence, StepId, TaskId, TooLarge, wire
from hanse.contracts import messages as m
from hanse.contracts.plain import pack, unpack
from hanse.contracts.wire import VERSION, decode, decode_event, encode, encode_event

from ..strategies import integers, nested, not_plain, plain, texts
from .examples import CALL, EVENTS, FOLDER, MESSAGES, RESULT, bytes_of

EXAMPLES = {**MESSAGES, **EVENTS}
NEWEST = {name.rpartition(".")[0]: name for name in sorted(EXAMPLES, key=lambda name: int(name.rpartition(".")[2]))}
FRAME = encode(CALL)
ENTRY = encode_event(EVENTS["step.completed.1"])
messages: list[type[Any]] = [cls for _, cls in inspect.getmembers(m, inspect.isclass) if cls.__module__ == m.__name__]


def read(name: str, data: bytes) -> Any:
    return decode_event(data) if name in EVENTS else decode(data)


def frame(tag: Any, row: Any) -> bytes:
    return bytes([VERSION]) + pack([tag, row])


# Golden bytes


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_yesterdays_bytes_are_read(name: str):
    assert read(name, (FOLDER / f"{name}.bin").read_bytes()) == EXAMPLES[name]


@pytest.mark.parametrize("name", sorted(NEWEST.values()))
def test_todays_bytes_are_yesterdays(name: str):
    assert bytes_of(name) == (FOLDER / f"{name}.bin").read_bytes()


def test_every_file_has_its_example():
    assert {file.stem for file in FOLDER.iterdir()} == EXAMPLES.keys()


def test_every_message_and_every_kind_of_event_has_an_example():
    assert {type(MESSAGES[NEWEST[tag]]) for tag in NEWEST if NEWEST[tag] in MESSAGES} == set(messages)
    assert {EVENTS[NEWEST[kind]].kind for kind in NEWEST if NEWEST[kind] in EVENTS} == set(Kind)


@pytest.mark.parametrize("cls", messages)
def test_an_example_shows_every_field_with_another_value_than_its_default(cls: Any):
    shown = [
        each for value in MESSAGES.values() for each in (value, *getattr(value, "results", ())) if type(each) is cls
    ]
    for field in cls._fields:
        default = cls._field_defaults.get(field, ...)
        assert any(getattr(each, field) != default for each in shown), f"{cls.__name__}.{field}"


def test_a_frame_begins_with_its_version_and_names_itself():
    assert FRAME[0] == VERSION == 1
    assert unpack(FRAME[1:])[0] == "call"
    assert b"hanse." not in FRAME, "a module's path in durable bytes keeps code from moving"


# Growing


@pytest.mark.parametrize("cls", messages)
def test_a_message_grows_only_by_fields_with_defaults_at_its_end(cls: Any):
    """Fields are positional. Those of the golden files come first and in this order, for ever."""
    order = {
        "Hello": "host incarnation agents",
        "Welcome": "shard epoch",
        "Offers": "offers",
        "Call": "award key agent task step tenant capability input token attempt deadline_ms budget_cents",
        "Result": "award output error latency_ms replayed",
        "Calls": "calls",
        "Results": "results",
        "Stop": "awards",
        "Progress": "task step fraction note",
        "Proposal": "number agent task step tenant capability input",
        "Proposed": "number bid",
        "Request": "number method tenant parameters by",
        "Response": "number result error",
        "Piece": "number data",
        "Drop": "number",
    }[cls.__name__].split()
    fields = cls._fields
    assert list(fields[: len(order)]) == order
    assert set(fields[len(order) :]) <= cls._field_defaults.keys()


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_what_a_newer_writer_added_is_ignored(name: str):
    tag, row = unpack(encode(MESSAGES[name])[1:])
    if tag in ("calls", "results"):
        row = [[[*each, "new"] for each in row[0]]]
    assert decode(frame(tag, [*row, {"new": [1]}, None])) == MESSAGES[name]


def test_what_an_older_writer_left_out_has_its_default():
    tag, row = unpack(FRAME[1:])
    assert decode(frame(tag, row[:-4])) == CALL._replace(budget_cents=0)
    assert decode(frame("calls", [[row[:-4]]])) == m.Calls([CALL._replace(budget_cents=0)])
    assert decode(frame("result", [RESULT.award, 5])) == m.Result(RESULT.award, 5)


def test_what_no_default_replaces_must_be_there():
    tag, row = unpack(FRAME[1:])
    with pytest.raises(Corrupt, match="not a frame"):
        decode(frame(tag, row[:-5]))


def test_an_event_with_more_fields_is_read():
    event = EVENTS["step.completed.1"]
    assert decode_event(bytes([VERSION]) + pack([*unpack(ENTRY[1:]), "new"])) == event


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_refused_by_name(version: int):
    with pytest.raises(Corrupt, match=f"version {version:02x}, this side speaks 1"):
        decode(bytes([version]) + FRAME[1:])
    with pytest.raises(Corrupt, match=f"version {version:02x}, this side reads 1"):
        decode_event(bytes([version]) + ENTRY[1:])


def test_nothing_is_no_frame():
    with pytest.raises(Corrupt, match="version none"):
        decode(b"")
    with pytest.raises(Corrupt, match="version none"):
        decode_event(b"")


# There and back


def filled(cls: Any) -> st.SearchStrategy[Any]:
    """Messages of a type with plain data in every field, which is all that a frame promises."""
    inner = {"calls": m.Call, "results": m.Result}
    return st.builds(
        cls,
        **{field: st.lists(filled(inner[field]), max_size=3) if field in inner else plain for field in cls._fields},
    )


@given(st.one_of([filled(cls) for cls in messages]))
def test_every_message_comes_back(message: Any):
    assert decode(encode(message)) == message
    assert encode(decode(encode(message))) == encode(message)


events = st.builds(
    Event,
    integers.map(Sequence),
    integers.map(Epoch),
    integers,
    st.sampled_from(Kind),
    st.none() | texts.map(TaskId),
    st.none() | texts.map(StepId),
    st.dictionaries(texts, plain, max_size=4),
)


@given(events)
def test_every_event_comes_back(event: Event):
    back = decode_event(encode_event(event))
    assert back == event
    assert isinstance(back.kind, Kind)
    assert encode_event(back) == encode_event(event)


# Foreign bytes


@given(st.binary(max_size=200))
def test_random_bytes_are_corrupt(data: bytes):
    for each in (data, bytes([VERSION]) + data):
        with pytest.raises(Corrupt):
            decode(each)
        with pytest.raises(Corrupt):
            decode_event(each)


@given(st.sampled_from(sorted(wire._TAGS)), plain | st.lists(plain, max_size=14))
def test_a_row_of_any_shape_is_a_message_or_corrupt(tag: str, row: Any):
    with suppress(Corrupt):
        decode(frame(tag, row))


@given(plain)
def test_plain_data_that_is_no_frame_is_corrupt(value: Any):
    for data in (bytes([VERSION]) + pack(value), frame(value, [])):
        with pytest.raises(Corrupt):
            decode(data)
        with pytest.raises(Corrupt):
            decode_event(data)


@pytest.mark.parametrize("whole", [FRAME, encode(MESSAGES["calls.1"]), ENTRY], ids=["call", "calls", "event"])
def test_a_damaged_frame_is_another_one_or_corrupt(whole: bytes):
    """Every truncation is noticed. A flipped bit may hit a value, which the journal's hash chain notices."""
    reads = decode_event if whole is ENTRY else decode
    for end in range(len(whole)):
        with pytest.raises(Corrupt):
            reads(whole[:end])
    dice = random.Random(5)
    for _ in range(3_000):
        damaged = bytearray(whole)
        damaged[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        with suppress(Corrupt):
            reads(bytes(damaged))


@pytest.mark.parametrize(
    ("tag", "row"),
    [
        ("nonsense", []),
        (None, []),
        ([], []),
        ({}, []),
        ("stop", {"awards": []}),
        ("stop", "a"),
        ("hello", "abc"),
        ("hello", {"host": 1, "incarnation": 2, "agents": 3}),
        ("calls", []),
        ("calls", [5]),
        ("calls", ["abc"]),
        ("calls", [[5]]),
        ("calls", [["x" * 12]]),
        ("results", [{"a": 1}]),
        ("results", [[{"a": 1, "b": 2}]]),
        ("welcome", None),
        ("call", []),
    ],
)
def test_a_row_of_the_wrong_shape_is_corrupt(tag: Any, row: Any):
    with pytest.raises(Corrupt, match="not a frame"):
        decode(frame(tag, row))


@pytest.mark.parametrize(
    ("field", "value"),
    [(0, "one"), (0, None), (1, 1.5), (2, "now"), (3, "step.dreamt"), (3, None), (3, []), (6, None), (6, []), (6, "x")],
)
def test_an_entry_of_the_wrong_shape_is_corrupt(field: int, value: Any):
    row = unpack(ENTRY[1:])
    row[field] = value
    with pytest.raises(Corrupt, match="not a journal entry"):
        decode_event(bytes([VERSION]) + pack(row))


@pytest.mark.parametrize("opening", [b"\x91", b"\x81", b"\x81\xa1a", b"\x92\xc0", b"\x82\xa1a\xc0\xa1b"])
def test_depth_is_corrupt_and_does_not_crash_the_interpreter(opening: bytes):
    for depth in (1_025, 100_000, 5_000_000):
        with pytest.raises(Corrupt):
            decode(bytes([VERSION]) + opening * depth)
        with pytest.raises(Corrupt):
            decode_event(bytes([VERSION]) + opening * depth)


def test_a_claim_of_a_huge_size_costs_nothing():
    for head in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"):
        with pytest.raises(Corrupt):
            decode(bytes([VERSION]) + head + b"x" * 100)


# What is not written


@pytest.mark.parametrize("value", [None, 5, {"award": "a"}, object(), EVENTS["step.skipped.1"]])
def test_what_is_no_message_is_not_written(value: Any):
    with pytest.raises(TypeError, match=f"{type(value).__name__} is no message"):
        encode(value)


@given(not_plain.filter(lambda value: not isinstance(value, (float, bytes, dict))))
def test_what_is_not_plain_is_not_written(value: Any):
    with pytest.raises(TypeError):
        encode(m.Result(RESULT.award, {"a": [value]}))
    with pytest.raises(TypeError):
        encode_event(EVENTS["step.completed.1"]._replace(data={"output": value}))
    assert encode(CALL) == FRAME


def test_what_is_too_deep_is_not_written():
    with pytest.raises(TypeError):
        encode(m.Result(RESULT.award, nested(100_000)))


def test_what_is_too_large_is_not_written(monkeypatch: pytest.MonkeyPatch):
    fits = m.Result(RESULT.award, "x" * 1_000)
    monkeypatch.setattr(wire, "MAX_FRAME", len(encode(fits)))
    encode(fits)
    with pytest.raises(TooLarge, match=r"a frame has at most \d+ bytes, this result has \d+"):
        encode(m.Result(RESULT.award, "x" * 1_001))


def test_threads_do_not_mix_up_their_frames():
    """The store's thread and the event loop write at the same time."""
    wrong: list[bytes] = []

    def write(n: int) -> None:
        message = m.Result(RESULT.award, {"n": [n] * 200})
        expected = encode(message)
        wrong.extend(each for each in (encode(message) for _ in range(2_000)) if each != expected)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
