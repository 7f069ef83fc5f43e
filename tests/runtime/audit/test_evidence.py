"""Proofs and bundles: what somebody with the public key and a file can check, and that nothing false passes."""

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import apsw
import pytest

from hanse.contracts import InvalidInput, Kind, NotFound, StepId, Submission, TaskId, Unavailable
from hanse.contracts.wire import decode_event, encode_event
from hanse.runtime.audit import Signer
from hanse.runtime.audit.anchors import FileAnchor, read_anchors
from hanse.runtime.audit.bundle import Notary, make_bundle, read_bundle, text_of
from hanse.runtime.audit.proofs import prove
from hanse.runtime.audit.reasons import check
from hanse.runtime.cli.reach import Options
from hanse.runtime.federation import Federation
from hanse.runtime.journal import Journal
from hanse.runtime.store import SqliteStore
from hanse.runtime.store.place import Folder
from hanse.runtime.world import SystemClock

from ..cli.shop import AGENTS, RULES, Shop
from ..gateway.conftest import OTHER_TOKEN, TOKEN, app_over, asking

NOW = 1_800_000_000_000
PLAN: Any = {
    "steps": [
        {"id": "in", "call": "ledger.deposit", "input": {"account": "a", "cents": 500}},
        {"id": "ship", "call": "carriers.ship", "input": {"to": "here"}, "after": ["in"]},
        {"id": "out", "call": "ledger.withdraw", "input": {"account": "a", "cents": {"$from": "in.cents"}}},
    ],
    "output": {"$from": "out"},
}


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    return tmp_path / "var"


@pytest.fixture
async def task(data: Path) -> str:
    """A task that three agents bid for, that a person approved, and that has ended."""
    async with Shop(data)(Options()) as client:
        view = await client.submit(Submission.model_validate({"plan": PLAN}))
        view = await client.wait(view.id, 10)
        assert view.status == "input_required", "what cannot be undone stands ready behind the question"
        (asked,) = await client.approvals()
        await client.decide(asked.id, approve=True, digest=asked.digest, note="fine")
        assert (await client.wait(view.id, 10)).status == "completed"
        return view.id


def signer_of(data: Path) -> Signer:
    return Signer("local", (data / "secret.key").read_bytes())


def bundle_of(data: Path, task: str) -> dict[str, Any]:
    made = make_bundle(Folder(data), TaskId(task), Notary(signer_of(data), NOW, {}))
    return read_bundle(json.dumps(made))


async def test_a_bundle_tells_the_whole_chain_of_reasons(data: Path, task: str):
    found = check(bundle_of(data, task), signer_of(data).public)
    assert found.problems == []
    told = "\n".join(found.lines)
    for words in (
        f"task {task} of tenant default, asked for by local",
        "step ship: carriers.ship",
        "bid of north: 3 cents",
        "bid of south: 3 cents",
        "awarded to north (attempt 1)",
        "allowed by the rule:",
        "a person was asked about sha256:",
        "approved by local for sha256:",
        "receipt at ledger: input sha256:",
        "ended as completed",
        "proved against entry",
    ):
        assert words in told


async def test_a_bundle_tells_what_was_known_of_the_data(data: Path):
    async with Federation.in_process(AGENTS, approvals=RULES, data=data) as federation:
        made = await federation.submit(call="carriers.ship", input={"to": "x"}, labels={"private": "ann"})
        await made.result(10)
    found = check(bundle_of(data, made.id), signer_of(data).public)
    assert found.problems == []
    told = "\n".join(found.lines)
    assert "its data is private; cleared to go outward: private" in told


async def test_a_running_federation_hands_out_the_same(data: Path, task: str):
    async with Shop(data)(Options()) as client:
        bundle = await client.bundle(task)
        assert check(read_bundle(json.dumps(bundle)), signer_of(data).public).problems == []
        with pytest.raises(NotFound):
            await client.bundle(task[:-1] + ("0" if task[-1] != "0" else "1"))


async def test_a_federation_in_memory_has_nothing_to_show():
    async with Federation.in_process(AGENTS, approvals=RULES) as federation:
        made = await federation.submit(call="carriers.ship", input={"to": "x"})
        await made.result(10)
        with pytest.raises(Unavailable, match="in memory"):
            await federation.client.bundle(made.id)


async def test_the_key_must_be_the_one_that_is_trusted(data: Path, task: str):
    other = Signer("local", bytes(32))
    assert "is signed by" in check(bundle_of(data, task), other.public).problems[0]
    forged = resigned(bundle_of(data, task), other)
    assert check(forged, None).problems == [], "it only fits itself"
    assert "the bundle is signed by" in check(forged, signer_of(data).public).problems[0]


def resigned(bundle: dict[str, Any], signer: Signer) -> dict[str, Any]:
    bundle |= {"key": signer.public.hex()}
    return bundle | {"signature": signer.sign_text(text_of(bundle)).hex()}


def first(bundle: dict[str, Any]) -> dict[str, Any]:
    return bundle["journals"][0]


def entry(bundle: dict[str, Any], number: int) -> dict[str, Any]:
    return first(bundle)["entries"][number]


def reworded(bundle: dict[str, Any]) -> None:
    held = base64.b64decode(entry(bundle, 2)["entry"])
    entry(bundle, 2)["entry"] = base64.b64encode(held.replace(b"ledger", b"LEDGER")).decode()


TAMPERINGS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "an entry's bytes": (reworded, "not in the tree"),
    "an entry's place": (lambda b: entry(b, 2).update(sequence=entry(b, 2)["sequence"] + 1), "not in the tree"),
    "a path": (lambda b: entry(b, 2)["path"].__setitem__(0, "00" * 32), "not in the tree"),
    "two entries swapped": (lambda b: first(b)["entries"].reverse(), "out of order"),
    "an entry twice": (lambda b: first(b)["entries"].insert(1, entry(b, 0)), "out of order"),
    "the submission left out": (lambda b: first(b)["entries"].pop(0), "not that it was submitted"),
    "an award left out": (lambda b: first(b)["entries"].pop(1), "no legal history"),
    "the head's root": (lambda b: first(b)["head"].update(root="00" * 32), "signature of the head"),
    "another task": (lambda b: b.update(task=b["task"][:-1] + "z"), "about another task"),
    "a receipt's input": (lambda b: b["receipts"][0].update(input="sha256:00"), "another input than its award"),
    "a receipt's output": (lambda b: b["receipts"][0].update(output="sha256:00"), "another output"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
async def test_what_was_changed_in_a_bundle_is_found(data: Path, task: str, name: str):
    """By the signature under the whole; and, if the holder of the key itself signs it anew, by what it says."""
    change, said = TAMPERINGS[name]
    bundle = bundle_of(data, task)
    change(bundle)
    assert check(bundle, signer_of(data).public).problems
    found = check(resigned(bundle, signer_of(data)), signer_of(data).public)
    assert any(said in problem for problem in found.problems), found.problems


@pytest.mark.parametrize("part", ["journals", "receipts", "effects", "missing", "task", "key", "signature"])
async def test_a_bundle_that_lacks_a_part_is_no_bundle_or_does_not_hold(data: Path, task: str, part: str):
    bundle = bundle_of(data, task)
    del bundle[part]
    with suppress(InvalidInput):
        assert check(bundle, signer_of(data).public).problems


async def test_an_award_for_something_else_than_the_plan_gives_is_found(data: Path, task: str):
    """Whoever holds the key could write such a journal; the bundle would still not hold."""
    path = data / "coordinator-0.sqlite"
    connection = apsw.Connection(str(path))
    for sequence, held in list(connection.execute("SELECT sequence, entry FROM journal WHERE task = ?", (task,))):
        event = decode_event(held)
        if event.kind == "step.awarded" and event.step == "out":
            wrong = encode_event(event._replace(data={**event.data, "input": "sha256:00"}))
            connection.execute("UPDATE journal SET entry = ? WHERE sequence = ?", (wrong, sequence))
    connection.close()
    problems = check(bundle_of(data, task), signer_of(data).public).problems
    assert any("not for what the plan gives" in each for each in problems)
    assert any("what was approved for out is not what was awarded" in each for each in problems)


async def test_a_store_that_is_gone_is_named(data: Path, task: str):
    (data / "agents" / "ledger.sqlite").unlink()
    found = check(bundle_of(data, task), signer_of(data).public)
    assert found.problems == []
    assert any("not in this bundle: the store of ledger" in line for line in found.lines)
    assert any("no receipt of it" in line for line in found.lines)


async def test_a_bundle_is_proved_against_a_head_that_an_anchor_holds(data: Path, task: str):
    heads = read_anchors([data.with_name("var.heads")]).heads
    notary = Notary(signer_of(data), NOW, {heads[-1].journal: heads[-1]})
    bundle = read_bundle(json.dumps(make_bundle(Folder(data), TaskId(task), notary)))
    assert check(bundle, signer_of(data).public, heads).problems == []
    assert "no anchor holds" in check(bundle, signer_of(data).public, heads[:-1]).problems[0]
    early = signer_of(data).sign("coordinator-0", 3, b"h" * 32, b"r" * 32, 1)
    late = make_bundle(Folder(data), TaskId(task), Notary(signer_of(data), NOW, {"coordinator-0": early}))
    assert late["journals"][0]["head"]["sequence"] > 3, "one that does not cover the task is of no use"


async def beside(data: Path, name: str, task: str, *entries: tuple[Kind, dict[str, Any]]) -> None:
    """A journal of another part, with entries about the task and about another."""
    store = SqliteStore.open(data / f"{name}.sqlite", name.partition("-")[0])
    journal = Journal(store, SystemClock(), print)
    for kind, said in entries:
        journal.append(kind, TaskId(task), StepId("in"), said)
        journal.append(kind, TaskId("another"), None, said)
    await journal.durable()
    await store.close()


async def test_what_models_and_memory_gave_is_in_the_bundle(data: Path, task: str):
    called = {"tier": "planner", "model": "sha256:aa", "prompt": "sha256:bb", "answer": "sha256:cc"}
    await beside(data, "models", task, (Kind.MODEL_CALLED, called), (Kind.MODEL_SETTLED, {"call": "c", "tier": "x"}))
    await beside(data, "memory-0", task, (Kind.MEMORY_REMEMBERED, {"records": [["r1", 2, "sha256:dd"]]}))
    bundle = bundle_of(data, task)
    assert [each["head"]["journal"] for each in bundle["journals"]] == ["coordinator-0", "memory-0", "models"]
    told = "\n".join(check(bundle, signer_of(data).public).lines)
    assert "model.called in step in: tier planner, model sha256:aa, prompt sha256:bb, answer sha256:cc" in told
    assert "memory.remembered in step in: records r1 2 sha256:dd" in told
    assert "model.settled in step in: call c, tier x" in told
    assert "proved against entry 4 of models" in told


async def test_the_gateway_hands_it_out_to_its_tenant_alone(data: Path, task: str):
    async with Federation.in_process(AGENTS, data=data, approvals=RULES) as federation:
        app = app_over(federation)
        for token, status in ((TOKEN, 200), (OTHER_TOKEN, 404), ("nobody", 401)):
            async with asking(app, token) as http:
                answer = await http.get(f"/v1/tasks/{task}/bundle")
            assert answer.status_code == status
            if status == 200:
                assert check(answer.json(), signer_of(data).public).problems == []
        assert check(await (await federation.task(task)).bundle(), signer_of(data).public).problems == []
        async with asking(app, TOKEN) as http:
            said = (await http.get("/metrics")).text
        assert 'hanse_journal_rolled_back{journal="coordinator-0"} 0' in said
        assert f'hanse_anchor_failing{{journal="coordinator-0",anchor="file {data}.heads"}} 0' in said
        assert 'hanse_unanchored_entries{journal="coordinator-0"}' in said


async def test_an_unknown_task_has_no_bundle(data: Path, task: str):
    for unknown in ("nonsense", task[:-1] + ("0" if task[-1] != "0" else "1")):
        with pytest.raises(NotFound):
            bundle_of(data, unknown)


async def test_a_proof_of_every_entry_holds_and_of_no_other(data: Path, task: str):
    signer = signer_of(data)
    last = read_anchors([data.with_name("var.heads")]).heads[-1].sequence
    for sequence in range(1, last + 1):
        proof = json.loads(json.dumps(prove(data, "coordinator-0", sequence, signer, NOW, since=sequence)))
        found = check(proof, signer.public)
        assert found.problems == []
        assert f"entry {sequence} of coordinator-0" in found.lines[0]
        wrong = deepcopy(proof)
        wrong["included"]["sequence"] = sequence % last + 1
        assert check(wrong, signer.public).problems
        wrong = deepcopy(proof)
        wrong["growth"]["root"] = "00" * 32
        assert check(wrong, signer.public).problems
    for sequence in (0, last + 1):
        with pytest.raises(NotFound, match="has no entry"):
            prove(data, "coordinator-0", sequence, signer, NOW)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "hanse.audit.proof"}', '{"kind": "hanse.audit.bundle"}'])
def test_what_is_neither_is_refused(text: str):
    with pytest.raises(InvalidInput):
        check(read_bundle(text), None)


async def test_a_proof_under_a_head_that_no_anchor_holds_is_told(data: Path, task: str, tmp_path: Path):
    signer = signer_of(data)
    other = FileAnchor(tmp_path / "other")
    await other.keep(signer.sign("coordinator-0", 1, b"h" * 32, b"r" * 32, NOW))
    await other.close()
    proof = prove(data, "coordinator-0", 1, signer, NOW)
    found = check(proof, signer.public, read_anchors([other.path]).heads)
    assert "no anchor holds the head" in found.problems[0]
