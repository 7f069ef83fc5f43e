"""Whose turn it is among tenants, and who is let in when it is full."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import Tenant
from hanse.runtime.fairness import FairQueue, Shares

A, B, C = Tenant("a"), Tenant("b"), Tenant("c")


def taken(queue: FairQueue[int], count: int) -> list[Tenant]:
    found: list[Tenant] = []
    for _ in range(count):
        tenant = queue.next()
        assert tenant is not None
        queue.take(tenant)
        found.append(tenant)
    return found


def full(weights: dict[str, float], each: int = 1000) -> FairQueue[int]:
    queue = FairQueue[int](weights)
    for tenant in weights:
        for number in range(each):
            queue.put(Tenant(tenant), 5, number)
    return queue


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(1, 9), min_size=2), st.integers(1, 300))
def test_who_waits_all_the_time_is_served_by_weight(weights: dict[str, int], count: int):
    """Goyal, Vin and Cheng, theorem 1: no two tenants are further apart than one step each, weighed."""
    served = Counter(taken(full({name: float(weight) for name, weight in weights.items()}), count))
    for one, weight in weights.items():
        for other, its in weights.items():
            apart = served[Tenant(one)] / weight - served[Tenant(other)] / its
            assert apart <= 1 / weight + 1 / its + 1e-9


def test_a_tenant_that_comes_late_is_served_next_and_has_saved_up_nothing():
    queue = full({"a": 1})
    taken(queue, 500)
    for number in range(500):
        queue.put(B, 5, number)
    assert Counter(taken(queue, 100)) == {A: 50, B: 50}


def test_within_a_tenant_the_higher_priority_goes_first_and_among_equals_who_came_first():
    queue = FairQueue[int]({})
    for number, priority in enumerate([5, 9, 0, 9]):
        queue.put(A, priority, number)
    assert [queue.take(A) for _ in range(4)] == [1, 3, 0, 2]


def test_a_priority_takes_nothing_from_another_tenant():
    queue = FairQueue[int]({})
    for number in range(10):
        queue.put(A, 9, number)
        queue.put(B, 0, number)
    assert Counter(taken(queue, 10)) == {A: 5, B: 5}


def test_what_is_put_back_is_first_again_and_costs_nothing():
    queue = full({"a": 1, "b": 1})
    for _ in range(50):
        assert queue.next() == A
        assert queue.take(A) == 0
        queue.put_back(A, 5, 0)
    assert Counter(taken(queue, 10)) == {A: 5, B: 5}


def test_one_who_is_put_aside_holds_up_nobody():
    queue = full({"a": 1, "b": 1})
    assert queue.next({A}) == B
    assert queue.next({A, B}) is None


def test_what_is_not_wanted_any_more_is_forgotten():
    queue = full({"a": 1, "b": 1}, 10)
    queue.keep(lambda number: number == 7)
    assert len(queue) == 2
    queue.keep(lambda number: False)
    assert not queue


# Shares of open tasks


def flood(shares: Shares, tenant: Tenant, opened: Counter[Tenant]) -> None:
    while shares.admits(tenant, opened.total()):
        shares.opened(tenant)
        opened[tenant] += 1


@pytest.mark.parametrize("first", [A, B, C])
def test_whoever_floods_everybody_gets_his_share(first: Tenant):
    shares, opened = Shares(1000, {"a": 1, "b": 3, "c": 1}), Counter[Tenant]()
    for tenant in (first, A, B, C):
        flood(shares, tenant, opened)
    assert opened[first] == 1000, "while there is room, anybody may have it"
    assert opened[A] >= 200
    assert opened[B] >= 600
    assert opened[C] >= 200
    assert opened.total() <= 2000


def test_room_is_given_back():
    shares = Shares(2, {"a": 1, "b": 1})
    for _ in range(2):
        shares.opened(A)
    assert not shares.admits(A, 2)
    assert shares.admits(B, 2)
    shares.closed(A)
    shares.closed(A)
    assert shares.admits(A, 0)


def test_a_tenant_that_nobody_named_comes_in_only_while_there_is_room():
    shares = Shares(1, {"a": 1})
    assert shares.admits(C, 0)
    assert not shares.admits(C, 1)
