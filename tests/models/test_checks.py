"""What is said of an answer: exact places, no false alarms on plain text, nothing missed of what hides."""

from pathlib import Path
from typing import Any

import pytest

from hanse.contracts import InvalidInput
from hanse.contracts.pool import Ask, Message, Postcondition
from hanse.models import checks, schemas, validators
from hanse.models.backend import Raw
from hanse.models.proposal import Proposal, propose

from ..support.models import ask

ROOT = Path(__file__).resolve().parents[2]
PROSE = (ROOT / "README.md").read_text(encoding="utf-8")


def proposal(text: str, **asked: Any) -> Proposal:
    return propose(ask(**asked), Raw(text), 100_000)


@pytest.mark.parametrize("look", [validators.empty, validators.refusal, validators.repetition, validators.unicode])
def test_plain_prose_raises_no_alarm(look: validators.Look):
    assert look(PROSE, ()) == ""
    assert all(look(part, ()) == "" for part in PROSE.split("\n\n") if part.strip())


@pytest.mark.parametrize(
    "text",
    [
        "Grüße aus Köln",
        "日本語のテキスト",
        "مرحبا بالعالم",
        "नमस्ते दुनिया",
        "क्\u200dष",
        "👩\u200d👩\u200d👧",
        "Ελλάδα",
        "Москва",
        "naïve café",
        "5 µm at 3 Ω",
    ],
)
def test_other_scripts_are_plain_text(text: str):
    assert validators.unicode(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "a\u202eb",
        "a\u200bb",
        "pass\u200dword",
        "\ufeffhi",
        "раypal",
        "gооgle",
        "t\U000e0041",
        "soft\u00adhyphen",
        "\x1b[31m",
        "brok\ufffdn",
        "αpple",
    ],
    ids=ascii,
)
def test_what_hides_is_seen(text: str):
    assert validators.unicode(text)


@pytest.mark.parametrize(
    ("text", "sources", "invented"),
    [
        ("It is 1,000.", ["We have 1000 of them"], ""),
        ("It is 12.50 in all.", ["12.5"], ""),
        ("It is 007.", ["agent 7"], ""),
        ("It is 13.", ["12 and 14"], "13"),
        ("It is -5.", ["5"], "-5"),
        ("It is 3.", [], ""),
        ("Version v2 of A4.", ["nothing"], ""),
        ("It costs $99.99!", ["The price: $99.99"], ""),
    ],
)
def test_numbers_stand_in_the_sources_however_they_are_written(text: str, sources: list[str], invented: str):
    found = validators.numbers(text, sources)
    assert (invented in found) if invented else not found


@pytest.mark.parametrize(
    ("text", "sources", "invented"),
    [
        ("Order #W123 is late.", ["#W123 was sent"], ""),
        ("Order #W124 is late.", ["#W123 was sent"], "#W124"),
        ("See 0193502f-7c00-7005.", ["id 0193502F-7C00-7005"], ""),
        ("Call 5551234567.", ["nobody"], "5551234567"),
        ("In 2026 we sold 30.", ["nothing"], ""),
        ("mail ana_3@shop.example", ["nothing"], "ana_3"),
    ],
)
def test_identifiers_stand_in_the_sources(text: str, sources: list[str], invented: str):
    found = validators.ids(text, sources)
    assert (invented in found) if invented else not found


def test_names_stand_in_the_sources():
    assert validators.entities("It was Ana Maria Lopez.", ["ana maria lopez called"]) == ""
    assert "Bob Stone" in validators.entities("It was Bob Stone.", ["ana maria lopez called"])


def test_a_loop_is_found_wherever_it_begins():
    assert validators.repetition(PROSE[:2000] + "and so on " * 30)
    assert validators.repetition("ab" * 100)
    assert validators.repetition("one two three " * 5) == "", "five times in few words is a song"
    assert validators.repetition("\n".join(f"| {n} | value {n * n} |" for n in range(200))) == ""


@pytest.mark.parametrize("name", sorted(validators.DETERMINISTIC))
async def test_each_is_a_validator_too(name: str):
    validator = validators.deterministic()[name]
    judgement = await validator.judge("", ["It is 5."])
    assert judgement.validator == name
    assert judgement.score == (1.0 if name == "empty" else 0.0)


# Structure


def test_the_schema_says_where_and_what():
    wanted = {
        "type": "object",
        "properties": {"lines": {"type": "array", "items": {"enum": ["a", "b"]}}, "n": {"maximum": 5}},
        "required": ["lines", "n", "who"],
    }
    found = {str(each) for each in checks.schema(proposal('{"lines": ["a", "c"], "n": 9}', answer=wanted))}
    assert found == {
        '/lines/1: "c" is not one of "a" or "b"',
        "/n: 9 is greater than the maximum of 5",
        '/: "who" is a required property',
    }


def test_what_was_cut_off_is_told_to_be_shorter():
    cut = propose(ask(answer={"type": "string"}), Raw('"abc', finish_reason="length"), 1000)
    (finding,) = checks.schema(cut)
    assert "fewer words" in finding.detail


def test_instructions_are_not_given_away():
    secret = "Never tell anybody that the discount for partners is forty percent on all goods"
    asked = Ask(messages=(Message(role="system", content=secret), Message(role="user", content="?")))
    assert checks.echo(propose(asked, Raw(f"My instructions: {secret.lower()}!"), 1000))
    assert not checks.echo(
        propose(asked, Raw("The discount for partners is a secret that I keep to myself here"), 1000)
    )


DATA = (
    '{"total": 30, "lines": [{"cents": 10, "id": "a"}, {"cents": 20, "id": "b"}], "due": "2026-05-01", "tags": [1, 1]}'
)


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (Postcondition(at="/total", rule="equals", value=30), True),
        (Postcondition(at="/total", rule="equals", value={"$at": "/lines/0/cents"}), False),
        (Postcondition(at="/total", rule="at_least", value=30), True),
        (Postcondition(at="/total", rule="at_most", value=29), False),
        (Postcondition(at="/total", rule="at_most", value="many"), False),
        (Postcondition(at="/due", rule="at_least", value="2026-01-01"), True),
        (Postcondition(at="/total", rule="sum_of", value=["/lines/*/cents"]), True),
        (Postcondition(at="/total", rule="sum_of", value=["/lines/0/cents"]), False),
        (Postcondition(at="/total", rule="sum_of", value=["/lines/*/id"]), False),
        (Postcondition(at="/due", rule="in_sources"), True),
        (Postcondition(at="/total", rule="in_sources"), False),
        (Postcondition(at="/tags", rule="unique"), False),
        (Postcondition(at="/lines", rule="unique"), True),
        (Postcondition(at="/nowhere", rule="equals", value=1), False),
    ],
)
def test_postconditions(rule: Postcondition, holds: bool):
    found = checks.postconditions(
        proposal(DATA, answer={"type": "object"}, sources=("due 2026-05-01",), postconditions=(rule,))
    )
    assert bool(found) is not holds
    assert all(finding.pointer == rule.at for finding in found)


# The gate for schemas


def laughs(levels: int) -> dict[str, Any]:
    """Each definition refers twice to the next."""
    twice = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": {**twice, f"d{levels}": {"type": "string"}}}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"properties": {"a": {"items": {"$ref": "other.json"}}}},
        {"$id": "http://example.com/", "$ref": "#"},
        {"$dynamicRef": "#a"},
        {"$ref": "#/$defs/nowhere"},
        {"type": "wish"},
        {"pattern": "(a+)+$" * 200},
        {"pattern": "(?=a)b"},
        {"enum": ["x" * 70_000]},
        laughs(40),
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_a_schema_that_may_not_be_used_is_refused(schema: dict[str, Any]):
    with pytest.raises(InvalidInput):
        schemas.check_schema(schema)


def test_depth_is_bounded():
    schema: dict[str, Any] = {}
    for _ in range(40):
        schema = {"items": schema}
    with pytest.raises(InvalidInput, match="deep"):
        schemas.check_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}}},
        {"const": {"$ref": "http://example.com"}},
        {"$ref": "#"},
        {"$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}}}, "$ref": "#/$defs/node"},
        laughs(5),
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_a_schema_of_known_words_is_let_through(schema: dict[str, Any]):
    schemas.check_schema(schema)
