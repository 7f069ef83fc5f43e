"""`hanse stats`: over a real federation in this process, and drawn from made-up figures."""

import pytest
from rich.console import Console

from hanse.contracts import InvalidInput
from hanse.contracts.outcomes import Moment, Outcome, OutcomesView, Spread
from hanse.runtime.cli.stats import bar, drawn, seconds_of, spark

from .shop import Shop
from .test_commands import Shell


@pytest.fixture
def shell(tmp_path) -> Shell:
    return Shell(Shop(tmp_path / "var"))


def test_stats_show_what_happened(shell):
    shell("call", "ledger.deposit", "account=ann", "cents=500")
    shell("call", "carriers.ship", "to=ann")
    shell("call", "ledger.withdraw", "account=bob", "cents=5", code=4)
    text = shell("stats", "--since", "1h").stdout
    assert "last 1h  3 tasks: 2 completed, 1 failed, 0 canceled" in text
    assert "1 refused" in text
    assert "carriers.ship" in text
    data = shell.data("stats", "--since", "1h")
    assert (data["total"]["tasks"], data["total"]["cost_cents"], data["total"]["cents_per_success"]) == (3, 3, 1.5)
    assert {row["name"] for row in data["rows"]} == {"ledger.deposit", "ledger.withdraw", "carriers.ship"}
    agents = shell.data("stats", "--by", "agent")["rows"]
    assert {row["name"] for row in agents} <= {"Ledger", "ledger", "north", "south"}


def test_before_anything_happened(shell):
    text = shell("stats").stdout
    assert "last 24h  0 tasks" in text
    assert "Nothing ended in this time." in text


def test_a_time_that_is_none_is_refused_before_anybody_is_asked(shell):
    assert "is no length of time" in shell("stats", "--since", "yesterday", code=2).stderr


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("24h", 86400), ("1.5d", 129600), (" 2w ", 1209600)]
)
def test_lengths_of_time(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "0h", "1 h", "1e9s", "٣h", "1h30m"])
def test_no_lengths_of_time(text):
    with pytest.raises(InvalidInput, match="is no length of time"):
        seconds_of(text)


def test_a_bar_is_full_only_when_everything_went_well():
    assert [bar(share).plain for share in (0, 0.5, 0.999, 1)] == ["·" * 10, "■■■■■·····", "■■■■■■■■■·", "■" * 10]
    assert bar(None).plain == ""


def test_a_spark_shows_the_busiest_part_at_full_height_and_hides_none():
    assert spark([Moment(since="", tasks=n) for n in (0, 1, 400, 800)]) == " ▁▄█"
    assert spark([Moment(since="", tasks=0)] * 3) == "   "
    assert spark([]) == ""


def test_every_figure_is_drawn_with_its_unit():
    row = Outcome(
        name="payments.refund",
        tasks=1000,
        completed=999,
        failed=1,
        success_rate=0.999,
        cost_cents=1998.5,
        cents_per_success=2.0005,
        model_cents=500,
        model_cost_share=0.25,
        asked=3,
        intervention_rate=0.003,
        decided=2,
        overridden=1,
        override_rate=0.5,
        deciding=Spread(count=2, p50=30, p95=600, p99=600),
        compensated=1,
        compensation_rate=0.001,
        steps=1000,
        retries=7,
        retries_per_step=0.007,
        recovering=Spread(count=4, p50=1.5, p95=3, p99=3),
        refusals={"refused": 1},
        calling=Spread(count=999, p50=0.004, p95=0.02, p99=1.25),
        model_calls=10,
    )
    view = OutcomesView(since="", until="", by="capability", total=row, rows=[row])
    text = _printed(view)
    for shown in (
        "last 7d  1000 tasks: 999 completed, 1 failed, 0 canceled",
        "success   99.9%",
        "cost      1998.5¢ in all, 2¢ per success",
        "people    in 0.3% of tasks, 2 decisions after p50 30.0 s, p95 10:00 min, 50% overridden",
        "repaired  4 steps: p50 1.5 s, p95 3.0 s",
        "calls     999: p50 4.0 ms, p95 20 ms, p99 1.2 s",
        "models    25% of the cost, 10 calls",
        "refused   1 refused",
    ):
        assert shown in text
    assert [cell for cell in text.splitlines()[-1].split() if "■" not in cell] == [
        *("payments.refund", "1000", "99.9%", "2¢", "0.3%", "50%", "0.007", "0.1%", "4.0", "ms", "20", "ms", "1")
    ]


def test_a_name_from_elsewhere_cannot_draw_on_the_screen():
    row = Outcome(name="a\x1b[2Jb", tasks=1)
    assert "\x1b" not in _printed(OutcomesView(since="", until="", by="capability", total=row, rows=[row]))


def _printed(view: OutcomesView) -> str:
    console = Console(width=160, highlight=False, color_system=None)
    with console.capture() as capture:
        console.print(drawn(view, "7d"))
    return capture.get()
