"""How values are written for people, and that text from elsewhere cannot touch the terminal."""

import io
import json

import pytest
from rich.console import Console

from hanse.contracts import Event, Kind, TaskStatus
from hanse.runtime.cli.output import Output, table
from hanse.runtime.cli.text import clock, duration, inline, json_text, money, plain

from ...support.journal import History


@pytest.mark.parametrize(
    ("ms", "written"),
    [(None, ""), (0.42, "0.4 ms"), (12.4, "12 ms"), (3123, "3.1 s"), (125_000, "2:05 min"), (3_600_000, "60:00 min")],
)
def test_a_duration_has_the_unit_that_fits(ms, written):
    assert duration(ms) == written


@pytest.mark.parametrize(("cents", "written"), [(0, ""), (12, "12¢"), (0.25, "0.25¢")])
def test_money_is_in_cents(cents, written):
    assert money(cents) == written


@pytest.mark.parametrize("nasty", ["\x1b[2J", "a\rb", "\u202ebad", "\x9b31m", "\x00", "\u2066x", "\x7f"])
def test_text_from_elsewhere_cannot_move_the_cursor_or_turn_the_reading_order(nasty):
    shown = plain(f"pay {nasty} 5")
    assert not any(ord(each) < 32 or 0x7F <= ord(each) <= 0x9F or each in "\u202e\u2066" for each in shown)
    assert shown.startswith("pay ")


def test_text_from_elsewhere_is_one_line():
    assert plain("a\n  b\t c") == "a b c"
    assert plain("x" * 10, 5) == "xxxx…"


def test_json_writes_views_events_and_plain_data_alike():
    event = History().completed("a")
    assert Event.from_json(event.to_json()).step == "a"
    assert '"kind":"step.completed"' in json_text(event)
    assert json_text({"status": TaskStatus.COMPLETED, "kinds": [Kind.TASK_FAILED]}) == (
        '{"status":"completed","kinds":["task.failed"]}'
    )
    with pytest.raises(TypeError):
        json_text(object())


def test_a_value_in_line_is_short():
    assert inline({"a": [1, 2]}) == '{"a":[1,2]}'
    assert len(inline("x" * 500)) == 80


def test_the_clock_shows_utc_as_written():
    assert clock("2026-11-21T09:05:07.123Z") == "09:05:07"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_terminal_has_no_letters_for_is_spelled(encoding):
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        out = Output(json=False)
        out.draw("✓ put → ledger 漢")
        out.draw(table("who", rows=[["Jörg …"]], empty=""))
    shown = file.buffer.getvalue().decode(encoding)  # pyright: ignore[reportAttributeAccessIssue]
    assert "+ put -> ledger ?" in shown
    assert ("J?rg ..." if encoding == "ascii" else "Jörg ...") in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_the_same_data_on_every_terminal(encoding):
    file = io.TextIOWrapper(io.BytesIO(), encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        Output(json=True).emit({"name": "Jörg 漢 \N{PERFORMING ARTS}"})
    assert json.loads(file.buffer.getvalue().decode(encoding)) == {  # pyright: ignore[reportAttributeAccessIssue]
        "name": "Jörg 漢 \N{PERFORMING ARTS}"
    }


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
def test_an_id_can_be_copied_from_a_table_however_narrow_the_terminal(width):
    """The next command needs it whole."""
    id = "01a20654-9363-7000-97bf:call"
    shown = io.StringIO()
    rows = [[id, "a rule of many words " * 3, "2026-11-23 02:55:35", "pending"]]
    Console(file=shown, width=width).print(table("approval", "rule", "asked", "decision", rows=rows, empty=""))
    lines = shown.getvalue().splitlines()
    assert sum(id in line for line in lines) == 1
    assert max(map(len, lines)) <= width
    assert "pending" in shown.getvalue()
