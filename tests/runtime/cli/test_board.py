"""Many tasks drawn from a tally, and the closing table."""

from hanse.contracts import Kind
from hanse.runtime.cli.board import MAX_WAITING, board, closing, figures
from hanse.runtime.report import Report, Tally

from ...support.journal import History
from .test_view import drawn


def tally(history: History) -> Tally:
    made = Tally()
    for event in history.events:
        made.add(event)
    return made


def test_the_board_shows_how_far_who_is_busy_and_the_last_awards():
    history = History()
    for task in ("a", "b", "c"):
        history.submitted("s=shop.ship", of=task)
    history.awarded("s", of="a", bids=[{"agent": "north"}, {"agent": "south"}])
    history.awarded("s", of="b", agent="south")
    history.add(Kind.TASK_COMPLETED, of="c", cost_cents=0)
    picture = drawn(board(tally(history), expected=74))
    assert "tasks 1/74  2 open, 1 completed" in picture
    assert "busy north 1  south 1" in picture
    awards = [line.split() for line in picture.splitlines() if "→" in line]
    assert awards == [["s", "→", "north", "of", "2", "the", "cheapest"], ["s", "→", "south", "the", "cheapest"]]
    assert picture.index("several agents wanted") < picture.index("last awards")


def test_the_board_shows_losses_recoveries_and_questions():
    history = History()
    history.add(Kind.AGENT_JOINED, of=None, agent="north", incarnation="1")
    history.add(Kind.AGENT_LEFT, of=None, agent="north", reason="its process ended")
    history.add(Kind.AGENT_JOINED, of=None, agent="north", incarnation="2")
    for number in range(MAX_WAITING + 2):
        history.add(Kind.APPROVAL_REQUESTED, "s", approval=f"t:{number}", rule="above 500")
    picture = drawn(board(tally(history)))
    assert "! north is gone: its process ended" in picture
    assert "! north is back" in picture
    assert "? above 500   hanse approvals approve t:0" in picture
    assert "? and 2 more" in picture


def test_a_board_of_nothing_is_drawn():
    assert "tasks 0/0" in drawn(board(Tally()))


def test_the_closing_table_names_every_figure_of_the_issue():
    names = {name for name, _ in figures(Report())}
    assert names >= {
        *("tasks", "steps", "bids", "awards", "refused by policy", "approvals", "retries", "recoveries"),
        *("effects delivered once", "step latency p50 / p95", "cost"),
    }


def test_the_closing_table_reads_as_sentences():
    report = Report(
        tasks={"completed": 72, "failed": 2},
        refusals={"orders.not_pending": 3},
        approvals={"asked": 4, "approved": 3, "denied": 1},
        effects=9,
        effects_doubled=1,
        step_p50_ms=4.2,
        step_p95_ms=61.0,
        cost_cents=12.5,
        seconds=9.4,
        events=1234,
    )
    picture = drawn(closing(report, [("audit", "1234 entries, unbroken")]))
    for part in (
        "74: 72 completed, 2 failed",
        "3 orders.not_pending",
        "4 asked, 3 approved, 1 denied",
        "4.2 ms / 61 ms",
        "12.5¢",
        "9.4 s, 1234 events",
        "1234 entries, unbroken",
    ):
        assert part in picture
    assert dict(figures(report))["effects delivered once"] == "8"
    assert dict(figures(report))["effects run twice"] == "1"
