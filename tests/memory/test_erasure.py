"""Erasure over derivation graphs: what goes, what stays in part, and that no trace is left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts.memory import Scope, State
from hanse.memory import books, consolidation, erasure
from hanse.memory.derivation import closure, everything_derived
from hanse.memory.redaction import Pattern

from .making import NOW, Derivations, episode, fact, record, without

DEPTH = 5


@st.composite
def derivation_graphs(draw) -> tuple[Derivations, dict[str, set[str]]]:
    """Five levels of records, each made of some of the levels before, and for each record whose words are in it.

    Some summaries keep books of their lines, some conclusions do not; each carries the canary of everyone in it.
    """
    records, inside = [], dict[str, set[str]]()
    for number in range(draw(st.integers(2, 6))):
        person = draw(st.sampled_from(["ann", "ben", "cid"]))
        state = draw(st.sampled_from([State.LIVE, State.QUARANTINED]))
        records.append(record(f"0-{number}", f"canary-{person} said {number}", subject=person, state=state))
        inside[f"0-{number}"] = {person}
    for level in range(1, DEPTH + 1):
        for number in range(draw(st.integers(1, 3))):
            sources = draw(st.lists(st.sampled_from(records), min_size=1, max_size=3, unique_by=lambda each: each.id))
            made = draw(st.sampled_from([_summary, _conclusion]))(f"{level}-{number}", sources, inside)
            inside[made.id] = {person for person in ("ann", "ben", "cid") if f"canary-{person}" in made.text}
            records.append(made)
    return Derivations(records), inside


def _summary(id, sources, inside):
    origins, lines = [], []
    for source in sources:
        through = books.lines_of(source) or [[source.id]] * len(source.text.split("\n"))
        known = books.lines_of(source) is not None
        lines += source.text.split("\n")
        origins += [[*each, source.id] if known else each for each in through]
    names = [source.id for source in sources]
    return record(id, "\n".join(lines), derived_from=names, payload={"lines": origins})


def _conclusion(id, sources, inside):
    people = sorted(set().union(*(inside[source.id] for source in sources)))
    names = [source.id for source in sources]
    return record(id, f"concluded: {' '.join(f'canary-{person}' for person in people)}", derived_from=names)


def about_ann(graph: Derivations) -> list[str]:
    return [id for id, each in graph.records.items() if erasure.is_about("ann", each)]


@given(derivation_graphs())
def test_erasing_a_subject_removes_every_derived_trace(made):
    graph, _ = made
    own = about_ann(graph)
    found = erasure.plan(own, graph)
    gone = (*found.delete, *found.derived)
    left = without(graph, gone, dict(found.rewrite))
    for each in left.values():
        assert "canary-ann" not in each.model_dump_json(), each
        assert not set(each.provenance.derived_from) & set(gone)
    untouched = {id for id in graph.records if id not in own and id not in closure(own, graph)}
    assert untouched <= set(left), "what has nothing to do with the subject stays"
    assert all(left[id] is graph.records[id] for id in untouched)


@given(derivation_graphs())
def test_a_summary_keeps_the_lines_of_others(made):
    """Lines of others stay wherever they came through books alone."""
    graph, _ = made
    found = erasure.plan(about_ann(graph), graph)
    for id, left in found.rewrite.items():
        before = graph.records[id]
        kept = [line for line in before.text.split("\n") if line in left.text.split("\n")]
        assert left.text.split("\n") == kept
        assert left.text
        assert len(books.lines_of(left) or ()) == len(kept)


def test_a_chain_of_conclusions_goes_to_its_end():
    chain = [record("0", subject="ann")]
    chain += [record(str(level), derived_from=[str(level - 1)]) for level in range(1, DEPTH + 1)]
    found = erasure.plan(["0"], Derivations([*chain, record("x")]))
    assert found.delete == ("0",)
    assert found.derived == tuple("12345")


def test_a_circle_of_derivations_ends():
    graph = Derivations([record("a", derived_from=["b"]), record("b", derived_from=["a"])])
    assert erasure.plan(["a"], graph).derived == ("b",)
    assert everything_derived(["a"], graph).derived == ("b",)


@given(derivation_graphs())
def test_without_books_everything_that_was_derived_goes_once(made):
    graph, _ = made
    found = everything_derived(own := about_ann(graph), graph)
    assert found.delete == tuple(own)
    assert len({*found.derived}) == len(found.derived)
    assert {*found.derived} == {*closure(own, graph)}
    assert {*erasure.plan(own, graph).derived} <= {*found.derived}


def test_books_that_do_not_fit_the_text_are_not_believed():
    liar = record("s", "one line\nanother line", derived_from=["a"], payload={"lines": [["z"]]})
    assert erasure.plan(["a"], Derivations([record("a"), liar])).derived == ("s",)


async def test_a_consolidated_year_loses_only_the_lines_of_what_goes():
    said = [episode(str(n), f"Visitor {n} asked for room {n}00.", n) for n in range(8)]
    policy = consolidation.Policy(at_least=4, share=1)
    [group] = consolidation.due(said, policy, NOW)
    month = _kept("month", await consolidation.summarise(group, policy))
    year = _kept("year", await consolidation.summarise(consolidation.Group("k", (month,), 2), policy))
    found = erasure.plan(["3"], Derivations([*said, month, year]))
    assert (found.delete, found.derived) == (("3",), ())
    for id in ("month", "year"):
        assert "Visitor 3" not in found.rewrite[id].text
        assert "Visitor 4 asked for room 400." in found.rewrite[id].text


def _kept(id, made):
    return record(id, made.text, payload=made.payload, provenance=made.provenance, layer=made.layer, episode="e")


def test_records_are_about_whom_they_name_as_their_subject():
    versions = [record("r", subject="ann"), record("s", scope=Scope.SUBJECT, owner="ann")]
    assert all(erasure.is_about("ann", each) for each in versions)
    assert not erasure.is_about("ann", record("t", "ann is named here only"))


def test_a_subject_gets_everything_that_is_kept_about_it():
    versions = [record("r", "old", subject="ann"), record("r", "new", version=2, subject="ann")]
    derived = record("d", "made of it", derived_from=["r"])
    kept = {"r": versions, "d": [derived]}
    told = erasure.bundle("ann", ["r"], ["d", "gone"], lambda id: kept.get(id, []), NOW)
    assert [each["text"] for each in told["records"][0]["versions"]] == ["old", "new"]
    assert [each["id"] for each in told["derived"]] == ["d"]


def test_a_pattern_is_masked_in_what_was_derived_too():
    records = [
        record("a", "Call +49 (30) 9018.", fact=fact("ann", "phone", "+49 (30) 9018")),
        record("b", "Her number is 49309018, ask for Lee.", derived_from=["a"]),
        record("c", "Another 49309018.", derived_from=["x"]),
    ]
    changed = erasure.redactions(records, Pattern(r"\+49 \(30\) \d+"), Derivations(records)).rewrite
    assert set(changed) == {"a", "b"}
    assert "9018" not in changed["a"].model_dump_json() + changed["b"].model_dump_json()
    assert changed["b"].text == "Her number is [pattern], ask for Lee."


@pytest.mark.parametrize("size", [2000])
def test_a_wide_graph_is_planned_once_over(size):
    records = [record("0"), *(record(str(n), derived_from=["0"]) for n in range(1, size))]
    by_source = {"0": [each.id for each in records[1:]]}

    class Indexed(Derivations):
        def derived_from(self, id: str) -> list[str]:
            return by_source.get(id, [])

    assert len(erasure.plan(["0"], Indexed(records)).derived) == size - 1
