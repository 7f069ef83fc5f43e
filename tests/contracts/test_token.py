"""Tokens: fixed vectors, narrowing that never widens, and one refusal for everything else."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import AgentId, Demand, Token, TokenInvalid
from hanse.contracts.plain import pack, unpack
from hanse.contracts.token import NO_LABELS, Allowance, Key, agent_key, mint, verify

from ..strategies import nested, plain, scalars

ROOT = bytes(range(32))
LEDGER = AgentId("ledger")
KEY = agent_key(ROOT, LEDGER)
CAVEATS: dict[str, Any] = {
    "task": "0193502f-7c00-7005-8123-456789abcdef",
    "step": "pay",
    "capability": "ledger.deposit",
    "tenant": "shop",
    "input": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "before": 1_732_176_000_000,
    "cents": 2.5,
}
DEMAND = Demand(
    task=CAVEATS["task"],
    step="pay",
    capability="ledger.deposit",
    tenant="shop",
    input_digest=CAVEATS["input"],
    now_ms=1_732_175_999_999,
    cost_cents=2.5,
)
TOKEN = mint(KEY, CAVEATS)


def refused(token: Token, demand: Demand = DEMAND, key: Key = KEY) -> TokenInvalid:
    with pytest.raises(TokenInvalid) as caught:
        verify(token, key, demand)
    assert caught.value.ids == {"task": demand.task, "step": demand.step}
    return caught.value


def signed(*blocks: bytes) -> Token:
    """A token whose signature is good, whatever its blocks hold: what any holder can make of one it has."""
    signature = bytes(KEY)
    for block in blocks:
        signature = hmac_sha256(signature, block)
    return Token(blocks, signature)


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """RFC 2104, written out: independent of the code under test."""
    key = key.ljust(64, b"\0") if len(key) <= 64 else hashlib.sha256(key).digest().ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()


# Vectors


def test_the_reference_is_rfc_2104():
    """Test case 2 of RFC 4231."""
    assert hmac_sha256(b"Jefe", b"what do ya want for nothing?").hex() == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_the_key_of_an_agent_has_not_changed():
    assert KEY.hex() == "e79fa0fbec8d66e193c9291404d28282654c03ace515c6d9d22c135339dffd50"
    assert hmac_sha256(ROOT, b"hanse agent key\x00ledger") == KEY


def test_a_minted_token_has_not_changed():
    assert TOKEN.blocks == (msgpack.packb(CAVEATS),)
    assert TOKEN.signature.hex() == "9be5ac61db724ab0c207b116ccfc15d9ed5a28f16ed0e471945c4c3aaf3890d7"
    assert hmac_sha256(KEY, TOKEN.blocks[0]) == TOKEN.signature


def test_an_attenuated_token_has_not_changed():
    narrower = TOKEN.attenuated({"cents": 1})
    assert narrower.blocks == (*TOKEN.blocks, bytes.fromhex("81a563656e747301"))
    assert narrower.signature.hex() == "c2678cecca851f83d0449c08a049b96c269dae68d9a76efd9b3f731eef1fd0ab"
    assert hmac_sha256(TOKEN.signature, narrower.blocks[1]) == narrower.signature


# What is allowed


def test_a_token_allows_what_it_says():
    verify(TOKEN, KEY, DEMAND)


def test_a_token_survives_the_wire_and_allows_the_same_again():
    again = Token.from_data(unpack(pack(TOKEN.to_data())))
    assert again == TOKEN
    for _ in range(2):
        verify(again, KEY, DEMAND)


def test_a_holder_narrows_without_a_key():
    narrower = TOKEN.attenuated({"cents": 1}).attenuated({"before": DEMAND.now_ms + 1})
    verify(narrower, KEY, dataclasses.replace(DEMAND, cost_cents=1))
    refused(narrower)
    refused(narrower, dataclasses.replace(DEMAND, cost_cents=1, now_ms=DEMAND.now_ms + 1))


def test_the_cost_need_not_be_limited():
    without = mint(KEY, {name: value for name, value in CAVEATS.items() if name != "cents"})
    verify(without, KEY, dataclasses.replace(DEMAND, cost_cents=1e9))


# What is refused


@pytest.mark.parametrize(
    "other",
    [
        {"task": "0193502f-7c00-7005-8123-000000000000"},
        {"step": "pay[1]"},
        {"capability": "ledger.withdraw"},
        {"tenant": "other"},
        {"input_digest": "sha256:" + "0" * 64},
        {"now_ms": CAVEATS["before"]},
        {"now_ms": CAVEATS["before"] + 1},
        {"cost_cents": 2.51},
        {"cost_cents": float("nan")},
    ],
    ids=lambda other: "-".join(other),
)
def test_a_token_is_not_good_for_anything_else(other: dict[str, Any]):
    error = refused(TOKEN, dataclasses.replace(DEMAND, **other))
    name = next(iter(other)).removesuffix("_digest").replace("now_ms", "before").replace("cost_cents", "cents")
    assert error.detail == f"the token's caveat {name!r} does not allow this"


def test_a_token_for_another_agent_is_refused():
    assert "signature does not fit" in refused(mint(agent_key(ROOT, AgentId("bank")), CAVEATS)).detail
    assert "signature does not fit" in refused(mint(agent_key(bytes(32), LEDGER), CAVEATS)).detail
    assert "signature does not fit" in refused(TOKEN, key=Key(b"")).detail


def test_agents_with_names_that_run_together_have_different_keys():
    names = ["a", "ab", "b", "", "a\x00b", "ledger", "Ledger"]
    assert len({agent_key(ROOT, AgentId(name)) for name in names}) == len(names)


@pytest.mark.parametrize("part", [0, 1, 2], ids=["minted block", "added block", "signature"])
def test_no_bit_of_a_token_can_be_changed(part: int):
    narrower = TOKEN.attenuated({"cents": 2.5})
    verify(narrower, KEY, DEMAND)
    parts = [bytearray(each) for each in (*narrower.blocks, narrower.signature)]
    for place, bit in itertools.product(range(len(parts[part])), range(8)):
        parts[part][place] ^= 1 << bit
        *blocks, signature = (bytes(each) for each in parts)
        refused(Token(tuple(blocks), signature))
        parts[part][place] ^= 1 << bit


def test_no_block_can_be_dropped_swapped_or_put_in_front():
    first, second = {"cents": 2}, {"cents": 1}
    token = TOKEN.attenuated(first).attenuated(second)
    a, b, c = token.blocks
    for blocks in [(a, b), (a, c), (a, c, b), (b, a, c), (b, c), (a,), (a, b, c, c), (pack({}), a, b, c)]:
        refused(Token(blocks, token.signature))


@pytest.mark.parametrize("name", ["task", "step", "capability", "tenant", "input", "before"])
def test_a_token_that_was_minted_too_wide_allows_nothing(name: str):
    wide = mint(KEY, {each: value for each, value in CAVEATS.items() if each != name})
    assert refused(wide).detail == f"the token was minted without the caveat {name!r}"
    assert "minted without" in refused(wide.attenuated({name: CAVEATS[name]})).detail
    refused(mint(KEY, {}))


@pytest.mark.parametrize("name", ["", "taks", "Task", "budget", "x" * 10_000, 5, None, b"task", True])
def test_a_caveat_that_is_not_known_here_refuses(name: Any):
    detail = refused(signed(TOKEN.blocks[0], pack({name: CAVEATS["task"]}))).detail
    assert "does not allow this" in detail
    assert len(detail) < 200


@pytest.mark.parametrize(
    "block",
    [
        {"before": "tomorrow"},
        {"before": None},
        {"before": True},
        {"before": [10**13]},
        {"before": float("nan")},
        {"before": msgpack.Timestamp(10**9, 0)},
        {"cents": "1000"},
        {"cents": None},
        {"cents": True},
        {"cents": {}},
        {"cents": float("nan")},
        {"cents": -1},
        {"task": None},
        {"task": [CAVEATS["task"]]},
        {"task": CAVEATS["task"].encode()},
        {"step": {}},
    ],
)
def test_a_caveat_of_another_type_refuses(block: dict[str, Any]):
    refused(signed(TOKEN.blocks[0], msgpack.packb(block)))


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (b"", "cannot be read"),
        (b"\xc1", "cannot be read"),
        (b"\x81\xa4task", "cannot be read"),
        (pack({}) + b"\x00", "cannot be read"),
        (b"\xa1\xff", "cannot be read"),
        (b"\x81\x90\xc0", "cannot be read"),
        (b"\x91" * 100_000 + b"\xc0", "cannot be read"),
        (b"\x81\xa4task" * 100_000, "cannot be read"),
        (b"\xdf\xff\xff\xff\xff", "cannot be read"),
        (pack(5), "is not a map"),
        (pack(None), "is not a map"),
        (pack([["task", "t"]]), "is not a map"),
        (pack("task"), "is not a map"),
        (pack(b"task"), "is not a map"),
        (msgpack.packb(msgpack.ExtType(5, b"x")), "is not a map"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_block_that_is_no_map_of_caveats_is_refused(block: bytes, says: str, first: bool):
    token = signed(block, TOKEN.blocks[0]) if first else signed(TOKEN.blocks[0], block)
    assert says in refused(token).detail


def test_more_than_sixteen_blocks_are_refused_and_none_too():
    token = TOKEN
    for _ in range(15):
        token = token.attenuated({})
    verify(token, KEY, DEMAND)
    assert "between 1 and 16 blocks" in refused(token.attenuated({})).detail
    assert "between 1 and 16 blocks" in refused(Token((), bytes(KEY))).detail


def test_a_refusal_does_not_show_key_or_signature():
    for token in (TOKEN.attenuated({"task": "x"}), mint(Key(b"other"), CAVEATS)):
        text = json.dumps(refused(token).to_data())
        assert KEY.hex() not in text
        assert token.signature.hex() not in text


# Narrowing never widens

loose = {
    "task": st.sampled_from([CAVEATS["task"], "other", None, 5]),
    "step": st.sampled_from(["pay", "get"]),
    "capability": st.sampled_from(["ledger.deposit", "ledger.withdraw", ""]),
    "tenant": st.sampled_from(["shop", "other"]),
    "input": st.sampled_from([CAVEATS["input"], "sha256:0"]),
    "before": st.integers(0, 5) | st.sampled_from([CAVEATS["before"], float("nan"), True, "soon"]),
    "cents": st.floats(0, 5) | st.sampled_from([-1, None, float("inf")]),
    "colour": st.just("red"),
}
chains = st.lists(st.fixed_dictionaries({}, optional=loose), max_size=4)
demands = st.builds(
    Demand,
    task=st.sampled_from([CAVEATS["task"], "other"]),
    step=st.sampled_from(["pay", "get"]),
    capability=st.sampled_from(["ledger.deposit", "ledger.withdraw"]),
    tenant=st.sampled_from(["shop", "other"]),
    input_digest=st.sampled_from([CAVEATS["input"], "sha256:0"]),
    now_ms=st.integers(0, 6) | st.just(DEMAND.now_ms),
    cost_cents=st.floats(0, 6) | st.just(0),
)


def allowed(blocks: Sequence[Mapping[str, Any]], demand: Demand) -> bool:
    """What tokens mean, plainly: every caveat of every block must hold, and the first block says all but cents."""
    wanted: dict[str, Any] = {
        "task": demand.task,
        "step": demand.step,
        "capability": demand.capability,
        "tenant": demand.tenant,
        "input": demand.input_digest,
    }
    if not {*wanted, "before"} <= blocks[0].keys():
        return False
    for block in blocks:
        for name, value in block.items():
            if name in wanted and value != wanted[name]:
                return False
            if name in ("before", "cents") and (isinstance(value, bool) or not isinstance(value, (int, float))):
                return False
            if name == "before" and not demand.now_ms < value:
                return False
            if name == "cents" and not demand.cost_cents <= value:
                return False
            if name not in {*wanted, "before", "cents"}:
                return False
    return True


def is_allowed(token: Token, demand: Demand) -> bool:
    try:
        verify(token, KEY, demand)
    except TokenInvalid:
        return False
    return True


def chained(first: Mapping[str, Any], chain: Sequence[Mapping[str, Any]]) -> Token:
    token = mint(KEY, first)
    for caveats in chain:
        token = token.attenuated(caveats)
    return token


@given(st.just(CAVEATS) | st.fixed_dictionaries({}, optional=loose), chains, demands | st.just(DEMAND))
def test_a_token_means_what_the_reference_says(first: dict[str, Any], chain: list[Any], demand: Demand):
    assert is_allowed(chained(first, chain), demand) == allowed([first, *chain], demand)


@given(chains, st.fixed_dictionaries({}, optional=loose), demands | st.just(DEMAND))
def test_narrowing_never_allows_more(chain: list[Any], more: dict[str, Any], demand: Demand):
    token = chained(CAVEATS, chain)
    if is_allowed(token.attenuated(more), demand):
        assert is_allowed(token, demand)


# Fuzz


@given(plain | st.lists(st.binary() | st.lists(st.binary()) | scalars, min_size=2, max_size=2) | st.binary(max_size=2))
def test_data_of_any_shape_is_a_token_or_refused(data: Any):
    with pytest.raises(TokenInvalid):
        verify(Token.from_data(data), KEY, DEMAND)


@pytest.mark.parametrize(
    "data",
    [None, [], {}, "ab", b"ab", 5, [[], ""], [None, b""], [["a"], b""], [[b"a"], None], [b"a", b"b"], [[b"a"], b"b", 1],
     nested(1_000), {"a": 1, "b": 2}, [{b"a": 1}, 5]],
)  # fmt: skip
def test_what_is_no_token_says_so(data: Any):
    with pytest.raises(TokenInvalid, match="this is not a token"):
        Token.from_data(data)


@given(st.lists(st.binary(max_size=40), max_size=18))
def test_signed_garbage_is_refused_and_never_another_error(blocks: list[bytes]):
    refused(signed(*blocks))
    refused(signed(TOKEN.blocks[0], *blocks, b"\xc1"))


@given(plain.map(pack), plain)
def test_signed_data_is_refused_unless_it_is_a_map_of_good_caveats(block: bytes, name: Any):
    token = signed(TOKEN.blocks[0], block)
    if unpack(block) != {}:
        refused(token)


# Labels


def labelled(*later: dict[str, Any], **caveats: Any) -> Token:
    token = mint(KEY, CAVEATS | caveats)
    for each in later:
        token = token.attenuated(each)
    return token


def test_a_token_without_labels_has_the_bytes_it_always_had():
    assert unpack(TOKEN.blocks[0]) == CAVEATS
    assert verify(TOKEN, KEY, DEMAND) == NO_LABELS


def test_what_a_token_says_of_the_data_is_signed():
    token = labelled(labels=["private", "untrusted"], cleared=["private"])
    assert verify(Token.from_data(unpack(pack(token.to_data()))), KEY, DEMAND) == Allowance(
        ("private", "untrusted"),
        ("private",),
    )
    widened = pack(CAVEATS | {"labels": ["private", "untrusted"], "cleared": ["private", "untrusted"]})
    refused(Token((widened,), token.signature))


@pytest.mark.parametrize(
    ("later", "labels", "cleared"),
    [
        ([{"labels": ["pii"]}], ("pii", "private", "untrusted"), ("private", "untrusted")),
        ([{"cleared": ["untrusted", "pii"]}], ("private", "untrusted"), ("untrusted",)),
        ([{"cleared": []}, {"cleared": ["private"]}], ("private", "untrusted"), ()),
    ],
)
def test_a_holder_adds_labels_and_takes_away_what_is_cleared_and_nothing_else(later: Any, labels: Any, cleared: Any):
    token = labelled(*later, labels=["private", "untrusted"], cleared=["private", "untrusted"])
    assert verify(token, KEY, DEMAND) == Allowance(labels, cleared)


def test_nothing_is_cleared_that_was_not_minted_so():
    assert verify(labelled({"cleared": ["private"]}, labels=["private"]), KEY, DEMAND) == Allowance(("private",))


@pytest.mark.parametrize(
    ("later", "said"),
    [
        ([], Allowance((), (), frozenset({"untrusted", "pii"}))),
        ([{"labels": ["pii"]}], Allowance(("pii",), (), frozenset({"untrusted", "pii"}))),
        ([{"cleared": ["pii", "-pii", "*"]}], Allowance()),
        ([{"labels": ["untrusted", "pii"]}, {"cleared": ["untrusted"]}], Allowance(("pii", "untrusted"))),
    ],
)
def test_a_token_may_clear_all_that_policy_has_no_word_about_and_nobody_widens_that(later: Any, said: Allowance):
    assert verify(labelled(*later, labels=[], cleared=["*", "-pii", "-untrusted"]), KEY, DEMAND) == said


def test_a_label_that_is_called_like_all_is_one_label():
    assert verify(labelled(labels=["*", "pii"], cleared=["*"]), KEY, DEMAND) == Allowance(("*", "pii"), ("*",))


@pytest.mark.parametrize("wrong", [1, "private", {"private": True}, ["private", 1], None])
def test_labels_of_another_shape_allow_nothing(wrong: Any):
    refused(labelled(labels=wrong))
    refused(labelled(labels=["a"], cleared=wrong))
