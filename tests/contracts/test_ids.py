"""Task ids are UUIDs of version 7 that carry their shard; the other ids follow from them."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import CapabilityName, StepId, TaskId
from hanse.contracts.ids import MAX_SHARDS, approval_id, award_id, domain_of, shard_of, step_key, uuid7

moments = st.integers(0, (1 << 48) - 1)
shards = st.integers(0, MAX_SHARDS - 1)
randomness = st.binary(min_size=8, max_size=16)


@given(moments, randomness, shards)
def test_an_id_has_the_layout_of_rfc_9562(unix_ms: int, random: bytes, shard: int):
    parsed = uuid.UUID(text := uuid7(unix_ms, random, shard))
    assert str(parsed) == text
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert parsed.int >> 80 == unix_ms
    assert parsed.int >> 64 & 0xFFF == shard
    assert parsed.int & (1 << 62) - 1 == int.from_bytes(random[:8], "big") & (1 << 62) - 1


def test_the_example_of_rfc_9562_is_reproduced():
    """Appendix A.6: 2022-02-22 19:22:22 UTC, rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F."""
    text = uuid7(0x017F22E279B0, 0x18C4DC0C0C07398F.to_bytes(8, "big"), shard=0xCC3)
    assert text == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(st.tuples(moments, moments), randomness, randomness, shards, shards)
def test_ids_sort_by_their_millisecond(at: tuple[int, int], a: bytes, b: bytes, one: int, other: int):
    earlier, later = sorted(at)
    if earlier != later:
        assert uuid7(earlier, a, one) < uuid7(later, b, other)


@given(moments, randomness, shards)
def test_the_shard_is_read_back(unix_ms: int, random: bytes, shard: int):
    assert shard_of(TaskId(uuid7(unix_ms, random, shard))) == shard


@pytest.mark.parametrize(
    ("unix_ms", "random", "shard"),
    [(0, bytes(8), MAX_SHARDS), (0, bytes(8), -1), (1 << 48, bytes(8), 0), (-1, bytes(8), 0), (0, bytes(7), 0)],
    ids=["shard", "negative shard", "year 10889", "before 1970", "little randomness"],
)
def test_an_id_that_would_lead_elsewhere_is_not_made(unix_ms: int, random: bytes, shard: int):
    with pytest.raises(ValueError, match="no id for shard"):
        uuid7(unix_ms, random, shard)


GOOD = uuid7(1_700_000_000_000, bytes(range(8)), 5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "order-17",
        GOOD.upper(),
        GOOD[:-1],
        GOOD + "0",
        GOOD + "\n",
        GOOD.replace("-7", "-4", 1),
        GOOD.replace("-", "_"),
        GOOD[:15] + "+05" + GOOD[18:],
        GOOD[:15] + "0_5" + GOOD[18:],
        GOOD[:15] + "٠٠٥" + GOOD[18:],
        GOOD[:19] + "c" + GOOD[20:],
        "{" + GOOD[1:],
        "x" * 1_000_000,
    ],
)
def test_what_only_looks_like_an_id_has_no_shard(text: str):
    with pytest.raises(ValueError, match="is not a task id") as caught:
        shard_of(TaskId(text))
    assert len(str(caught.value)) < 200


@given(st.text(max_size=40))
def test_any_text_is_an_id_or_a_value_error(text: str):
    with pytest.raises(ValueError, match="is not a task id"):
        shard_of(TaskId(text))


def test_ids_of_a_step_follow_from_task_and_step():
    task, step = TaskId(GOOD), StepId("pay[3]")
    assert step_key(task, step) == f"{GOOD}/pay[3]"
    assert award_id(task, step, 2) == f"{GOOD}/pay[3]#2"
    assert approval_id(task, step) == f"{GOOD}:pay[3]"


def test_an_approval_id_fits_into_one_segment_of_a_path():
    assert "/" not in approval_id(TaskId(GOOD), StepId("pay~"))


def test_the_domain_of_a_capability_is_its_first_half():
    assert domain_of(CapabilityName("orders.refund")) == "orders"
