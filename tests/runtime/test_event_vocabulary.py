"""What the journal writes with each kind of event is what `contracts/events.py` says it writes."""

import ast
import inspect
import re

from pydantic import BaseModel

from hanse.agents.agent import Agent
from hanse.agents.context import Context
from hanse.contracts import Event, Kind, Refusal, capability, events
from hanse.runtime.federation import Federation, Task

APPROVALS = [{"capability": "till.pay", "above": {"field": "cents", "limit": 500}}]


class Money(BaseModel):
    cents: int


class TooMuch(Refusal):
    """Nobody pays so much."""

    code = "vocabulary_test.too_much"


class Till(Agent):
    """Takes money."""

    domain = "till"

    @capability(effect="reversible", compensation="give_back")
    async def pay(self, request: Money, context: Context) -> Money:
        """Pay."""
        if request.cents > 900:
            raise TooMuch
        return request

    @capability(effect="irreversible")
    async def give_back(self, request: Money, context: Context) -> Money:
        """Give back."""
        return request


def documented() -> dict[str, set[str]]:
    """The words under each member of `Kind`: its docstring is not there at run time, so the source is read."""
    body = next(iter(ast.parse(inspect.getsource(events.Kind)).body))
    assert isinstance(body, ast.ClassDef)
    found: dict[str, set[str]] = {}
    for statement, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.Assign) and isinstance(below, ast.Expr):
            text = re.sub(r"\([^)]*\)|:.*", "", ast.literal_eval(below.value), flags=re.DOTALL)
            found[ast.literal_eval(statement.value)] = {word.strip() for word in text.split(",")}
    return found


def step(id: str, cents: int, **parts: object) -> dict[str, object]:
    return {"id": id, "call": "till.pay", "input": {"cents": cents}, **parts}


async def decide(federation: Federation, task: Task, *, approve: bool) -> None:
    await federation.client.wait(task.id, 10)
    (question,) = await federation.client.approvals()
    await federation.client.decide(question.id, approve=approve, digest=question.digest)
    await task.wait(10)


async def test_every_word_of_every_event_is_documented():
    known = documented()
    assert known.keys() == set(Kind)
    async with Federation.in_process([Till], approvals=APPROVALS) as federation:
        fan = [step("a", 1), step("b", 2, when=False), step("c", 3, for_each=[1, 2], after=["a"])]
        await (await federation.submit(plan={"steps": fan})).wait(10)
        undone = await federation.submit(plan={"steps": [step("a", 1), step("b", 901, after=["a"])]})
        await decide(federation, undone, approve=True)
        canceled = await federation.submit(plan={"steps": [step("a", 501)]})
        await federation.client.wait(canceled.id, 10)
        await canceled.cancel("no more")
        await canceled.wait(10)
        letter = await federation.submit(plan={"steps": [step("a", 501)]}, labels={"untrusted": "letter"})
        await decide(federation, letter, approve=True)
        seen = await federation.client.events()
    assert {event.kind.value for event in seen} >= {
        *("task.submitted", "task.canceling", "task.aborting", "task.completed", "task.failed", "task.canceled"),
        *("step.expanded", "step.skipped", "step.awarded", "step.completed", "step.failed"),
        *("approval.requested", "approval.decided"),
    }
    wrong = {event.kind.value: event.data.keys() ^ known[event.kind.value] - left_out(event) for event in seen}
    assert not {kind: words for kind, words in wrong.items() if words}
    assert [
        event.data["data_labels"] for event in seen if event.task == letter.id and event.kind is Kind.TASK_SUBMITTED
    ]


def left_out(event: Event) -> set[str]:
    """What is said of data only where it has labels."""
    words = {Kind.TASK_SUBMITTED: {"data_labels"}, Kind.STEP_AWARDED: {"labels", "cleared"}}
    words |= {kind: {"labels"} for kind in (Kind.STEP_COMPLETED, Kind.APPROVAL_REQUESTED, Kind.APPROVAL_DECIDED)}
    return words.get(event.kind, set[str]()) - event.data.keys()
