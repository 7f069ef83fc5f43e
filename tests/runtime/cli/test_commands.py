"""Commands over a real federation in this process, opened anew for each of them as a command line would find it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from typer.testing import CliRunner

from hanse.contracts import ApprovalView
from hanse.runtime.cli import approvals
from hanse.runtime.cli.app import app
from hanse.runtime.cli.command import Ended, Session
from hanse.runtime.cli.exits import Exit
from hanse.runtime.cli.output import Output
from hanse.runtime.cli.reach import Options

from .shop import Shop

QUESTION = {
    "id": "t:s",
    "task": "t",
    "step": "s",
    "capability": "ledger.withdraw",
    "input": {},
    "digest": "sha256:" + "1" * 64,
    "rule": "always",
    "requested_at": "2026-01-01T00:00:00.000Z",
    "decision": "pending",
}


class Shell:
    """Runs commands, and says how they ended."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def __call__(self, *words: str, code: int = 0, stdin: str | None = None):
        result = CliRunner(env={"HANSE_URL": "", "HANSE_TOKEN": ""}).invoke(
            app, list(words), input=stdin, obj=self._shop
        )
        assert result.exit_code == code, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
        return result

    def data(self, *words: str, code: int = 0) -> Any:
        """What a command says with --json: one document, and nothing beside it."""
        return json.loads(self(*words, "--json", code=code).stdout)


@pytest.fixture
def shell(tmp_path) -> Shell:
    return Shell(Shop(tmp_path / "var"))


def waiting(shell: Shell) -> dict[str, Any]:
    """A task that waits for a person."""
    shell("call", "ledger.deposit", "account=ann", "cents=500")
    return shell.data("call", "ledger.withdraw", "account=ann", "cents=200", "--key", "large", code=5)


def test_call_prints_the_output(shell):
    assert shell("call", "ledger.deposit", "account=ann", "cents=5").stdout == '{"cents":5}\n'
    assert shell("call", "ledger.deposit", '{"account": "ann", "cents": 5}').stdout == '{"cents":10}\n'
    assert shell("call", "ledger.deposit", "-", stdin='{"account": "ann", "cents": 5}').stdout == '{"cents":15}\n'


def test_call_reads_words_as_the_contract_wants_them(shell):
    assert shell("call", "ledger.deposit", "account=007", "cents=5").stdout == '{"cents":5}\n'


def test_call_with_json_gives_the_task(shell):
    task = shell.data("call", "ledger.deposit", "account=ann", "cents=5", "--label", "team=red", "--key", "k")
    assert task["status"] == "completed"
    assert task["output"] == {"cents": 5}
    assert (task["labels"], task["idempotency_key"]) == ({"team": "red"}, "k")


def test_the_same_key_is_the_same_task(shell):
    for _ in range(2):
        assert shell("call", "ledger.deposit", "account=ann", "cents=5", "--key", "k").stdout == '{"cents":5}\n'
    error = shell("call", "ledger.deposit", "account=ann", "cents=6", "--key", "k", code=2).stderr
    assert "[key_reused" in error
    assert "take another --key" in error


def test_a_refusal_ends_with_4_and_says_why(shell):
    result = shell("call", "ledger.withdraw", "account=ann", "cents=5", code=4)
    assert result.stdout == ""
    assert result.stderr.startswith("hanse: ann has not so much [refused; task=")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ledger.deposit", "account=ann"], '"cents" is a required property'),
        (["ledger.deposit", "account=ann", "cents=many"], "is not of type"),
        (["ledger.deposit", "{"], "the input is not JSON"),
        (["ledger.deposit", "@nowhere.json"], "nowhere.json cannot be read"),
        (["no such thing"], "is not a capability"),
        (["ledger.deposit", "account=ann", "cents=5", "--budget-cents", "-1"], "budget-cents"),
    ],
)
def test_a_mistake_ends_with_2_and_starts_nothing(shell, words, says):
    assert says.lower() in shell("call", *words, code=2).stderr.lower()
    assert shell.data("tasks", "list") == []


def test_a_capability_that_nobody_offers_names_a_near_one(shell):
    assert "ledger.deposit" in shell("call", "ledger.deposti", "{}", code=1).stderr


def test_an_error_with_json_is_data_too(shell):
    error = shell.data("call", "ledger.deposit", "account=ann", code=2)["error"]
    assert (error["code"], error["exit"]) == ("invalid_plan", 2)


def test_waiting_is_over_when_the_time_is(shell):
    result = shell("call", "ledger.stall", "to=ann", "--wait", "0.05", code=6)
    assert "goes on. Follow it: hanse tasks watch" in result.stderr


def test_not_waiting_returns_at_once(shell):
    assert shell.data("call", "ledger.stall", "to=ann", "--wait", "0", code=6)["status"] in ("submitted", "working")


PLAN = {
    "steps": [
        {"id": "put", "call": "ledger.deposit", "input": {"account": "ann", "cents": {"$from": "input.cents"}}},
        {"id": "send", "call": "carriers.ship", "input": {"to": "ann"}, "after": ["put"]},
    ],
    "output": {"by": {"$from": "send.carrier"}},
}


@pytest.fixture
def plan(tmp_path) -> str:
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    return str(tmp_path / "plan.json")


def test_run_watches_a_plan_line_by_line_in_a_pipe(shell, plan):
    lines = shell("run", plan, "--input", '{"cents": 5}').stdout.splitlines()
    kinds = [line.split()[1].rstrip(":") for line in lines]
    assert kinds[0] == "task.submitted"
    assert kinds[-1] == "task.completed"
    award = next(line for line in lines if "step.awarded send" in line)
    assert "bids: north 3¢" in award
    assert "south 3¢" in award


def test_run_with_json_gives_a_line_for_each_event(shell, plan):
    lines = shell("run", plan, "--input", '{"cents": 5}', "--json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)
    assert events[-1]["kind"] == "task.completed"


def test_run_can_wait_without_watching(shell, plan):
    assert shell("run", plan, "--input", '{"cents": 5}', "--wait", "30").stdout in (
        '{"by":"north"}\n',
        '{"by":"south"}\n',
    )


def test_a_plan_that_cannot_run_says_where(shell, tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps({"steps": [{"id": "a", "call": "ledger.deposit", "after": ["b"]}]}))
    error = shell("run", str(tmp_path / "plan.json"), code=2).stderr
    assert "/steps/0" in error
    assert "Nothing was started" in error


def test_tasks_are_listed_the_newest_first_and_page_by_page(shell):
    made = [shell.data("call", "ledger.deposit", "account=ann", "cents=5", "--key", key)["id"] for key in "abc"]
    assert [task["id"] for task in shell.data("tasks", "list")] == made[::-1]
    assert [task["id"] for task in shell.data("tasks", "list", "--limit", "1", "--before", made[2])] == [made[1]]
    assert shell.data("tasks", "list", "--status", "failed") == []
    assert made[0] in shell("tasks", "list").stdout
    assert "There are no tasks." in shell("tasks", "list", "--status", "failed").stdout


def test_a_task_is_shown_with_its_steps_bids_and_output(shell, plan):
    task = shell.data("run", plan, "--input", '{"cents": 5}', "--wait", "30")["id"]
    shown = shell("tasks", "get", task).stdout
    assert "✓ put  ledger.deposit → ledger" in shown
    assert "└── ✓ send  carriers.ship → " in shown
    assert "»" in shown
    assert 'Output: {"by":' in shown
    assert shell.data("tasks", "get", task)["steps_done"] == 2


def test_steps_are_a_table(shell, plan):
    task = shell.data("run", plan, "--input", '{"cents": 5}', "--wait", "30")["id"]
    rows = shell("tasks", "steps", task).stdout.splitlines()
    assert rows[0].split()[:3] == ["step", "capability", "agent"]
    assert rows[2].split()[:3] == ["✓", "send", "carriers.ship"]
    assert [step["id"] for step in shell.data("tasks", "steps", task)] == ["put", "send"]


def test_watching_a_task_that_has_ended_tells_what_was_and_how_it_ended(shell):
    failed = shell.data("call", "ledger.withdraw", "account=ann", "cents=5", code=4)["id"]
    lines = shell("tasks", "watch", failed, code=4).stdout.splitlines()
    assert lines[-1].split()[1] == "task.failed:"
    assert "ann has not so much" in lines[-1]


def test_cancel_ends_a_task(shell):
    task = shell.data("call", "ledger.stall", "to=ann", "--wait", "0", code=6)["id"]
    assert shell.data("tasks", "cancel", task, "--reason", "enough")["status"] in ("canceled", "working")
    assert "enough" in shell("tasks", "watch", task, code=1).stdout


@pytest.mark.parametrize("command", [["get"], ["steps"], ["watch"], ["cancel"]])
def test_a_task_that_is_not_there_ends_with_1(shell, command):
    error = shell("tasks", *command, "nothing", code=1).stderr
    assert "there is no task nothing [not_found" in error


def test_a_question_is_listed_shown_and_approved_once(shell):
    task = waiting(shell)
    assert task["status"] == "input_required"
    (asked,) = shell.data("approvals", "list")
    assert asked["rule"] == "ledger.withdraw above 100 (cents = 200)"
    assert asked["id"] in shell("approvals", "list").stdout
    approved = shell("approvals", "approve", asked["id"], "--yes")
    assert 'ledger.withdraw {"account":"ann","cents":200}: approved by' in approved.stdout
    assert shell("call", "ledger.withdraw", "account=ann", "cents=200", "--key", "large").stdout == '{"cents":300}\n'
    assert shell.data("approvals", "list") == []
    assert shell.data("approvals", "list", "--all")[0]["decision"] == "approved"


def test_what_is_spent_of_a_budget_is_shown(shell):
    task = shell.data("call", "carriers.ship", "to=ann", "--budget-cents", "10")
    assert (task["budget"]["limit"]["cents"], task["budget"]["spent"]["cents"]) == (10, 3)
    assert "budget task: 3 of 10 cents" in shell("tasks", "get", task["id"]).stdout
    error = shell("call", "carriers.ship", "to=ann", "--budget-cents", "2", code=4).stderr
    assert "carriers.ship costs 3 cents; the task has 2 left [budget_exhausted" in error


def test_a_budget_has_more_than_cents(shell):
    task = shell.data("call", "carriers.ship", "to=ann", "--budget", "tokens=900", "--budget", "seconds=60")
    assert (task["budget"]["limit"]["tokens"], task["budget"]["limit"]["seconds"]) == (900, 60)
    assert (
        "Extra inputs are not permitted"
        in shell("call", "carriers.ship", "to=ann", "--budget", "pence=1", code=2).stderr
    )


def test_a_question_is_shown_with_what_is_needed_to_judge_it(shell):
    task = waiting(shell)
    shown = shell("tasks", "get", task["id"]).stdout
    assert "changes: something that ledger.deposit can undo" in shown
    assert "if denied: the task ends" in shown


def test_a_question_is_approved_with_another_input(shell):
    waiting(shell)
    asked = shell.data("approvals", "list")[0]["id"]
    decided = shell.data("approvals", "approve", asked, "--yes", "--input", '{"account": "ann", "cents": 1}')
    assert (decided["decision"], decided["input"]["cents"]) == ("approved", 1)
    assert decided["edited"]["was"] != decided["digest"]


def test_a_group_is_one_prompt_and_decided_together(shell):
    waiting(shell)
    shell("call", "ledger.withdraw", "account=ann", "cents=300", "--key", "larger", code=5)
    assert (
        "2 x ledger.withdraw above 100, together 500 (from 200 to 300)"
        in shell("approvals", "list", "--grouped").stdout
    )
    (group,) = shell.data("approvals", "list", "--grouped")
    assert "2 approved, 0 not" in shell("approvals", "approve", "--group", group["id"], "--yes").stdout
    assert shell.data("approvals", "list") == []
    assert "no group" in shell("approvals", "deny", "--group", group["id"], code=1).stderr


def test_a_question_that_is_denied_ends_the_task_with_4(shell):
    waiting(shell)
    asked = shell.data("approvals", "list")[0]["id"]
    assert "denied" in shell("approvals", "deny", asked, "--note", "too much").stdout
    error = shell("call", "ledger.withdraw", "account=ann", "cents=200", "--key", "large", code=4).stderr
    assert "[approval_denied" in error


def test_nobody_approves_without_having_seen(shell):
    waiting(shell)
    asked = shell.data("approvals", "list")[0]["id"]
    error = shell("approvals", "approve", asked, code=2).stderr
    assert '{"account":"ann","cents":200}' in error
    assert "Add --yes, or --digest with what you saw" in error
    assert len(shell.data("approvals", "list")) == 1


def test_what_was_not_seen_cannot_be_approved(shell):
    waiting(shell)
    asked = shell.data("approvals", "list")[0]
    error = shell("approvals", "approve", asked["id"], "--digest", "sha256:" + 64 * "0", code=4).stderr
    assert "[digest_mismatch" in error
    shell("approvals", "approve", asked["id"], "--digest", asked["digest"])


def test_a_question_that_is_not_there_ends_with_1(shell):
    assert "there is no approval x. See hanse approvals list" in shell("approvals", "deny", "x", code=1).stderr


def test_who_names_no_question_is_told_to(shell):
    assert "say which question" in shell("approvals", "approve", code=2).stderr


def test_a_no_may_be_said_in_the_words_of_a_yes(shell):
    waiting(shell)
    assert "denied" in shell("approvals", "deny", shell.data("approvals", "list")[0]["id"], "--yes").stdout


async def test_who_has_said_yes_to_an_earlier_question_hears_that_another_one_waits(capsys):
    """Said again it changes nothing; and the operator must not go away in the belief that it did."""
    asked = ApprovalView.model_validate(QUESTION)
    later = asked.model_copy(update={"digest": "sha256:" + "2" * 64})

    class Asking:
        async def approvals(self, *, pending: bool = True) -> list[ApprovalView]:
            return [later]

        async def decide(self, approval: str, **said: Any) -> ApprovalView:
            return later

    @asynccontextmanager
    async def reach(options: Options) -> AsyncIterator[Any]:
        yield Asking()

    session = Session(Options(), Output(json=False), reach)
    with pytest.raises(Ended) as ended:
        await approvals.approve(session, asked.id, digest=asked.digest)
    assert ended.value.exit is Exit.WAITING
    assert "Another one waits for an answer of its own" in capsys.readouterr().err
    await approvals.approve(session, asked.id, digest=later.digest)


def test_a_task_that_waits_says_where_to_look(shell):
    waiting(shell)
    error = shell("call", "ledger.withdraw", "account=ann", "cents=200", "--key", "large", code=5).stderr
    assert "waits for a person. Look: hanse approvals list" in error
    task = shell.data("tasks", "list", "--status", "input_required")[0]["id"]
    assert "? ledger.withdraw above 100 (cents = 200)" in shell("tasks", "get", task).stdout


def test_status_shows_agents_and_counts(shell):
    shell("call", "ledger.deposit", "account=ann", "cents=5")
    shown = shell("status").stdout
    assert "tasks 1 completed" in shown
    assert [line.split()[0] for line in shown.splitlines()[-3:]] == ["ledger", "north", "south"]
    assert shell.data("status")["tasks"] == {"completed": 1}


def test_contracts_are_listed_and_shown(shell):
    listed = shell("contracts", "list").stdout
    assert "ledger.deposit@1.0" in listed
    assert "ledger.withdraw" in listed
    assert shell.data("contracts", "show", "carriers.ship")["price_cents"] == 3
    assert "ledger.deposit" in shell("contracts", "show", "ledger.deposti", code=1).stderr


def test_the_audit_holds(shell):
    shell("call", "ledger.deposit", "account=ann", "cents=5")
    assert "unbroken" in shell("audit", "verify").stdout
    assert shell.data("audit", "verify")["ok"]
