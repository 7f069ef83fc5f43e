"""What people type, turned into inputs and submissions."""

import io
import json

import pytest

from hanse.contracts import InvalidInput
from hanse.runtime.cli.submission import input_of, labels_of, read_plan_file, submission_of

SCHEMA = {
    "properties": {
        "zip": {"type": "string"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "cents": {"type": "integer"},
        "address": {"$ref": "#/$defs/Address"},
        "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
    },
    "$defs": {"Address": {"type": "object"}},
}


@pytest.mark.parametrize(
    ("words", "schema", "meant"),
    [
        ([], None, {}),
        (['{"a": [1, null]}'], None, {"a": [1, None]}),
        (["[1]"], None, [1]),
        (["cents=5"], None, {"cents": 5}),
        (["name=ann", "cents=5"], None, {"name": "ann", "cents": 5}),
        (["ok=true", "none=null", 'list=["a"]'], None, {"ok": True, "none": None, "list": ["a"]}),
        (["empty="], None, {"empty": ""}),
        (["formula=a=b"], None, {"formula": "a=b"}),
        (["zip=01234"], SCHEMA, {"zip": "01234"}),
        (["zip=12345"], SCHEMA, {"zip": "12345"}),
        (["note=5"], SCHEMA, {"note": "5"}),
        (["cents=5"], SCHEMA, {"cents": 5}),
        (["cents=five"], SCHEMA, {"cents": "five"}),
        (['address={"city": "Bremen"}'], SCHEMA, {"address": {"city": "Bremen"}}),
        (["either=5"], SCHEMA, {"either": 5}),
        (["unknown=5"], SCHEMA, {"unknown": 5}),
    ],
)
def test_words_mean_an_input(words, schema, meant):
    assert input_of(words, schema) == meant


def test_a_file_and_standard_input_hold_an_input(tmp_path, monkeypatch):
    for name, text in (("a.json", '{"a": 1}'), ("a.yaml", "a: 1")):
        (tmp_path / name).write_text(text)
        assert input_of([f"@{tmp_path / name}"]) == {"a": 1}
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 1}'))
    assert input_of(["-"]) == {"a": 1}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{"], "the input is not JSON, line 1 column 2"),
        (['{"a": NaN}'], "the input is not JSON: NaN is no JSON number"),
        (["[" * 100_000], "the input is not JSON"),
        (["@nowhere.json"], "nowhere.json cannot be read: No such file"),
        (["cents", "5"], "'cents' is not key=value. Write key=value for each field, JSON, or @file"),
        (["=5"], "is not key=value"),
    ],
)
def test_what_means_nothing_says_what_to_write(words, says):
    with pytest.raises(InvalidInput) as caught:
        input_of(words)
    assert says in caught.value.detail


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="it is not UTF-8"):
        input_of([f"@{tmp_path / 'a.json'}"])


PLAN = {"steps": [{"id": "a", "call": "shop.look", "input": {}}]}


def test_a_plan_file_holds_a_plan_or_a_whole_submission(tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(PLAN))
    assert read_plan_file(str(file)) == {"plan": PLAN}
    file.write_text(json.dumps({"plan": PLAN, "input": {"a": 1}, "deadline_seconds": 5}))
    assert submission_of(read_plan_file(str(file))).deadline_seconds == 5


@pytest.mark.parametrize("text", ["[]", "5", "null", '"x"'])
def test_a_plan_file_holds_an_object(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InvalidInput, match="a plan is an object with steps"):
        read_plan_file(str(tmp_path / "plan.json"))


def test_a_submission_with_an_unknown_field_names_it():
    with pytest.raises(InvalidInput, match="/deadline"):
        submission_of({"plan": PLAN, "deadline": 5})


def test_labels_are_pairs():
    assert labels_of(["team=red", "run=7"]) == {"team": "red", "run": "7"}
