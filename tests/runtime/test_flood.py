"""Many questions as few prompts, and each of them decided by itself."""

from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import ApprovalView, Conflict
from hanse.runtime.flood import decide_all, grouped


def question(number: int, about: str = "till.pay above 5", amount: float | None = 6) -> ApprovalView:
    return ApprovalView(
        id=f"t{number}:s",
        task=f"t{number}",
        step="s",
        capability="till.pay",
        input={"cents": amount},
        digest=f"sha256:{number}",
        rule=f"{about} (cents = {amount})",
        requested_at=f"2026-11-21T00:00:{number % 60:02}Z",
        requested_by=f"p{number % 20}",
        about=about,
        amount=amount,
    )


def test_a_thousand_of_one_rule_are_one_prompt_with_its_sums():
    (group,) = grouped([question(number, amount=number) for number in range(1000)])
    assert (group.count, group.sum, group.min, group.max) == (1000, 499500, 0, 999)
    assert group.example.amount == 999
    assert group.seen == {f"t{number}:s": f"sha256:{number}" for number in range(1000)}
    assert len(group.requested_by) == 10


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from("abc"), st.none() | st.floats(0, 1e6))))
def test_no_question_is_left_out_and_none_is_in_two_groups(made: list[tuple[int, str, float | None]]):
    questions = [question(index, about, amount) for index, (_, about, amount) in enumerate(made)]
    groups = grouped(questions)
    assert sorted(id for group in groups for id in group.seen) == sorted(each.id for each in questions)
    assert all(group.count == len(group.seen) for group in groups)
    assert len(groups) == len({about for _, about, _ in made})


def test_a_group_keeps_its_name_while_it_grows():
    (few,), (many,) = grouped([question(1)]), grouped([question(1), question(2)])
    assert few.id == many.id


async def test_what_cannot_be_decided_keeps_nothing_else_from_it():
    class Client:
        async def decide(self, approval: str, *, approve: bool, digest: str, note: str = "") -> ApprovalView:
            if approval == "t1:s":
                raise Conflict("too late")
            return question(int(digest.rpartition(":")[2]))

    (group,) = grouped([question(number) for number in range(3)])
    decided, refused = await decide_all(Client(), group.seen, approve=True)
    assert [view.id for view in decided] == ["t0:s", "t2:s"]
    assert list(refused) == ["t1:s"]
