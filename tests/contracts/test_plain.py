"""What crosses the border is plain data, and what is not is found with a pointer."""

import json
import math
from contextlib import suppress

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import Corrupt, InvalidInput
from hanse.contracts.plain import MAX_DEPTH, check, pack, pointer, unpack

from ..strategies import nested, not_plain, plain, with_one


@given(plain)
def test_plain_data_passes_and_every_format_carries_it(value: object):
    check(value)
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert unpack(pack(value)) == value


@given(with_one(not_plain))
def test_one_thing_that_is_not_plain_is_found_wherever_it_is(value: object):
    with pytest.raises(InvalidInput) as caught:
        check(value, "/input")
    assert caught.value.ids["pointer"].startswith("/input")


@pytest.mark.parametrize(
    ("value", "where", "says"),
    [
        ({"a": [1, {"b/c": math.nan}]}, "/a/1/b~1c", "nan is no number in JSON"),
        ([math.inf], "/0", "inf is no number"),
        ([[2**64]], "/0/0", "at most 64 bits"),
        ({"n": -(2**63) - 1}, "/n", "at most 64 bits"),
        ({"text": "\ud800"}, "/text", "surrogate"),
        ({"a": {1: 2}}, "/a", "keys of an object are texts"),
        ({"a": b"bytes"}, "/a", "bytes is not plain data"),
        ({"a": {1, 2}}, "/a", "set is not plain data"),
        (object(), "", "object is not plain data"),
    ],
)
def test_the_message_says_where_and_what(value: object, where: str, says: str):
    with pytest.raises(InvalidInput, match=says) as caught:
        check(value)
    assert caught.value.ids["pointer"] == where
    assert str(caught.value).startswith(f"{where or '/'}: ")


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 0.0, "ü", "\U0001f600", (), ({},), True])
def test_the_last_that_is_plain_passes(value: object):
    check(value)
    check([value, {"a": value}])


def test_subclasses_of_plain_types_are_plain():
    class Text(str):
        pass

    class Table(dict[str, int]):
        pass

    check({Text("a"): [Text("b"), Table(c=1)]})
    with pytest.raises(InvalidInput):
        check([Table({2: 1})])  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_depth_has_a_limit_that_does_not_depend_on_the_stack():
    assert MAX_DEPTH == 100, "callers rely on it, and journals hold what it once let pass"
    check(nested(MAX_DEPTH))
    for depth in (MAX_DEPTH + 1, 1_000, 100_000):
        with pytest.raises(InvalidInput, match=f"deeper than {MAX_DEPTH}"):
            check(nested(depth))


def test_data_that_holds_itself_is_too_deep():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(InvalidInput, match="deeper"):
        check(loop)


@pytest.mark.parametrize("value", [2**64, "\ud800", {1, 2}, object(), nested(5_000)])
def test_what_cannot_be_packed_is_a_type_error_and_leaves_no_trace(value: object):
    with pytest.raises(TypeError, match=r"."):
        pack([1, 2, value])
    assert pack([3]) == msgpack.packb([3])


@given(st.binary(max_size=64))
def test_unpacking_random_bytes_gives_a_value_or_corrupt(data: bytes):
    with suppress(Corrupt):
        unpack(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91",
        b"\xc0\xc0",
        b"\x91" * 100_000 + b"\xc0",
        b"\x81" * 100_000,
        b"\x81\x90\xc0",
        b"\xa1\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc7\x05\xff\x00\x00\x00\x00\x00",
    ],
    ids=[
        "nothing",
        "reserved",
        "short",
        "trailing",
        "deep",
        "deep maps",
        "list as key",
        "no utf-8",
        "huge",
        "odd time",
    ],
)
def test_foreign_bytes_are_corrupt(data: bytes):
    with pytest.raises(Corrupt, match="not msgpack"):
        unpack(data)


def test_a_pointer_escapes_as_rfc_6901_says():
    assert pointer() == ""
    assert pointer("a", 0, "b/c", "d~e", "") == "/a/0/b~1c/d~0e/"
