"""One example of every message and every event. Their bytes stand in `golden/` and are never written again.

    python tests/contracts/examples.py      writes the files that are missing, and touches no other

When a message gets a new field, add an example with the next number (`call.2`): the old file goes on to prove that
yesterday's bytes are read, the new one what is written from now on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hanse.contracts import (
    AgentId,
    AwardId,
    Bid,
    CapabilityName,
    Compensation,
    Contract,
    Effect,
    Epoch,
    Event,
    IdempotencyKey,
    InvalidInput,
    Kind,
    Offer,
    Overloaded,
    Plan,
    Sequence,
    StepId,
    TaskId,
    Tenant,
)
from hanse.contracts import messages as m
from hanse.contracts.token import agent_key, mint
from hanse.contracts.wire import encode, encode_event

FOLDER = Path(__file__).parent / "golden"

TASK = TaskId("0193502f-7c00-7005-8123-456789abcdef")
STEP = StepId("pay")
LEDGER = AgentId("ledger")
DEPOSIT = CapabilityName("ledger.deposit")
AWARD = AwardId(f"{TASK}/pay#1")
SHOP = Tenant("shop")
DIGEST = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

ODD: Any = {"": [None, True, -1, 2**64 - 1, -(2**63), 0.1, 1e300, "ü\u0000😀"], "deeper": {"a": {}}}
"""Plain data with its edges."""

CONTRACT = Contract(
    name=DEPOSIT,
    version="1.2",
    effect=Effect.REVERSIBLE,
    description="Add money to an account.",
    input_schema={"type": "object", "properties": {"cents": {"type": "integer"}}},
    output_schema={"type": "null"},
    compensation=Compensation(CapabilityName("ledger.withdraw"), {"cents": {"$from": "input.cents"}}),
    labels=("money",),
)
BID = Bid(LEDGER, "1.2", 2.5, 3.0, 4, 0.75, "closed on Sundays")
PLAN = Plan.parse(
    {
        "steps": [
            {"id": "list", "call": "orders.list", "input": {"customer": {"$from": "input.customer"}}},
            {
                "id": "pay",
                "call": "ledger.deposit@1.2",
                "for_each": {"$from": "list.orders"},
                "input": {"cents": {"$first": [{"$from": "item.cents"}, 0]}, "note": {"$literal": {"$from": "x"}}},
                "when": {"$and": [{"$ok": "list"}, {"$gt": [{"$from": "index"}, 0]}, {"$not": False}]},
                "after": ["list"],
                "optional": True,
            },
        ],
        "output": {"$from": "pay"},
    }
)
CALL = m.Call(
    award=AWARD,
    key=IdempotencyKey(f"{TASK}/pay"),
    agent=LEDGER,
    task=TASK,
    step=STEP,
    tenant=SHOP,
    capability=DEPOSIT,
    input={"account": "a", "cents": 5},
    token=mint(agent_key(bytes(32), LEDGER), {"task": TASK, "step": STEP, "cents": 2.5}).to_data(),
    attempt=1,
    deadline_ms=1_732_176_000_000,
    budget_cents=2.5,
)
RESULT = m.Result(AWARD, {"cents": 5}, None, 1.5, True)
FAILURE = m.Result(AWARD, None, Overloaded(retry_after_seconds=0.5).to_data(), 0.25)

MESSAGES: Mapping[str, Any] = {
    "hello.1": m.Hello(
        "host-1",
        "a1b2c3",
        [
            {
                "agent": LEDGER,
                "domain": "ledger",
                "description": "Keeps accounts.",
                "contracts": [CONTRACT.to_data()],
                "node": "node-1",
                "pid": 4711,
            }
        ],
    ),
    "welcome.1": m.Welcome(shard=5, epoch=17),
    "offers.1": m.Offers([Offer(LEDGER, 3, {DEPOSIT: 1.5}, {DEPOSIT: 2.0}, False, "disk is full").to_data()]),
    "offers.2": m.Offers([Offer(LEDGER, 3, working=[AWARD]).to_data()]),
    "offers.3": m.Offers([Offer(LEDGER).to_data()], 1_800_000_000_000),
    "call.1": CALL,
    "call.2": CALL._replace(ruling={"happened": True, "result": {"id": 7}}),
    "call.3": CALL._replace(ruling={"happened": False, "result": None}, budget_tokens=900),
    "call.4": CALL._replace(budget_tokens=900, model="planner"),
    "calls.1": m.Calls([CALL, m.Call(AWARD, CALL.key, LEDGER, TASK, STEP, SHOP, DEPOSIT, ODD, [], 2, 0)]),
    "calls.2": m.Calls([CALL, CALL._replace(ruling={"happened": False, "result": None})]),
    "result.1": RESULT,
    "result.2": RESULT._replace(model_cents=0.25),
    "result.3": RESULT._replace(model_cents=0.25, model_tokens=137),
    "result.4": RESULT._replace(model_cents=0.25, model_tokens=137, labels={"untrusted": ["record r1"]}),
    "results.4": m.Results([RESULT._replace(labels={"untrusted": ["record r1"]}), FAILURE]),
    "results.1": m.Results([RESULT, FAILURE, m.Result(AWARD, ODD)]),
    "results.2": m.Results([RESULT._replace(model_cents=0.25), FAILURE, m.Result(AWARD, ODD)]),
    "calls.3": m.Calls([CALL._replace(ruling={"happened": False, "result": None}, budget_tokens=900)]),
    "calls.4": m.Calls([CALL._replace(budget_tokens=900, model="planner")]),
    "results.3": m.Results([RESULT._replace(model_cents=0.25, model_tokens=137), FAILURE]),
    "stop.1": m.Stop([AWARD, AwardId(f"{TASK}/pay[3]#2")]),
    "progress.1": m.Progress(TASK, STEP, 0.5, "half of it"),
    "proposal.1": m.Proposal(7, LEDGER, TASK, STEP, SHOP, DEPOSIT, ODD),
    "proposed.1": m.Proposed(7, BID.to_data()),
    "request.1": m.Request(8, "submit", SHOP, {"plan": PLAN.to_data()}, "alice"),
    "response.1": m.Response(8, None, InvalidInput("/a: no", pointer="/a", problems=[{"pointer": "/a"}]).to_data()),
    "piece.1": m.Piece(8, {"text": "once"}),
    "drop.1": m.Drop(8),
}

_EVENTS: Mapping[Kind, Any] = {
    Kind.COORDINATOR_STARTED: {"epoch": 17, "shard": 5, "tasks": 2},
    Kind.AGENT_JOINED: {
        "agent": LEDGER,
        "domain": "ledger",
        "incarnation": "a1b2c3",
        "capabilities": ["ledger.deposit@1.2"],
        "contract": DIGEST,
    },
    Kind.AGENT_LEFT: {"agent": LEDGER, "reason": "the other side is gone", "in_flight": 1},
    Kind.TASK_SUBMITTED: {
        "tenant": SHOP,
        "key": "order-17",
        "body": DIGEST,
        "plan": PLAN.to_data(),
        "input": ODD,
        "budget_cents": 50.0,
        "deadline_ms": 1_732_176_000_000,
        "labels": {"channel": "web"},
        "by": "alice",
    },
    Kind.TASK_CANCELING: {"reason": "changed my mind", "by": "alice"},
    Kind.TASK_ABORTING: {"error": Overloaded().to_data(), "step": STEP},
    Kind.TASK_COMPLETED: {"output": ODD, "cost_cents": 2.5},
    Kind.TASK_FAILED: {"error": Overloaded().to_data(), "cost_cents": 2.5},
    Kind.TASK_CANCELED: {"reason": "changed my mind", "cost_cents": 0.0},
    Kind.STEP_EXPANDED: {"count": 3},
    Kind.STEP_SKIPPED: {"reason": "its condition is false"},
    Kind.STEP_AWARDED: {
        "agent": LEDGER,
        "version": "1.2",
        "attempt": 1,
        "award": AWARD,
        "price_cents": 2.5,
        "reason": "ledger is the only one who may",
        "bids": [BID.to_data()],
        "rule": "automatic",
        "input": DIGEST,
        "approval": None,
    },
    Kind.STEP_INTERRUPTED: {"agent": LEDGER, "attempt": 1, "reason": "the other side is gone"},
    Kind.STEP_COMPLETED: {"agent": LEDGER, "attempt": 1, "output": ODD, "latency_ms": 1.5, "replayed": True},
    Kind.STEP_FAILED: {"agent": LEDGER, "attempt": 1, "error": Overloaded().to_data(), "retry_at_ms": None},
    Kind.APPROVAL_REQUESTED: {
        "approval": f"{TASK}:pay",
        "capability": DEPOSIT,
        "input": {"cents": 5},
        "digest": DIGEST,
        "rule": "above 500 cents",
        "expires_ms": 1_732_262_400_000,
    },
    Kind.APPROVAL_DECIDED: {
        "approval": f"{TASK}:pay",
        "decision": "approved",
        "digest": DIGEST,
        "by": "bob",
        "note": "fine",
    },
    Kind.MODEL_RESERVED: {
        "call": TASK,
        "tenant": SHOP,
        "tier": "small",
        "microcents": 512_000,
        "until_ms": 1_764_000_000_000,
    },
    Kind.MODEL_ROUTED: {
        "call": TASK,
        "tenant": SHOP,
        "subject": DEPOSIT,
        "tier": "small",
        "floor": "small",
        "reason": "the lowest expected cost",
        "expected": {"small": 0.5, "large": 2.0},
    },
    Kind.MODEL_CALLED: {
        "call": TASK,
        "tenant": SHOP,
        "by": "ledger",
        "agent": LEDGER,
        "capability": DEPOSIT,
        "subject": DEPOSIT,
        "purpose": "extract",
        "template": "extract@1",
        "prompt": DIGEST,
        "answer": DIGEST,
        "outcome": "accepted",
        "tier": "large",
        "model": DIGEST,
        "cached": "no",
        "scores": {"numbers": 0.0},
        "prompt_tokens": 120,
        "completion_tokens": 17,
        "microcents": 137_000,
        "latency_ms": 41.5,
        "shortened": 0,
        "attempts": [{"tier": "small", "outcome": "rejected"}, {"tier": "large", "outcome": "accepted"}],
    },
    Kind.MODEL_LAPSED: {"call": TASK, "tenant": SHOP, "tier": "small", "microcents": 512_000},
    Kind.MODEL_SHADOWED: {
        "call": TASK,
        "tenant": SHOP,
        "template": "extract@1",
        "shadow": "extract@2",
        "tier": "small",
        "outcome": "accepted",
        "answer": DIGEST,
        "agrees": False,
        "scores": {"numbers": 0.0},
        "microcents": 137_000,
    },
    Kind.MODEL_PURGED: {"tenant": None, "by": "ana", "entries": 12},
    Kind.MODEL_SETTLED: {"call": TASK, "tenant": SHOP, "tier": "small", "microcents": 137_000},
}

_MEMORY_EVENTS: Mapping[Kind, Any] = {
    Kind.MEMORY_REMEMBERED: {"tenant": SHOP, "by": "alice", "records": [["r1", 1, DIGEST]]},
    Kind.MEMORY_REVISED: {"tenant": SHOP, "by": "alice", "records": [["r1", 2, DIGEST]]},
    Kind.MEMORY_PINNED: {"tenant": SHOP, "by": "alice", "records": [["r1", 3, DIGEST]], "pinned": True},
    Kind.MEMORY_FORGOTTEN: {"tenant": SHOP, "by": "alice", "records": ["r1"], "derived": ["r2"], "cause": "asked"},
    Kind.MEMORY_GRANTED: {"tenant": SHOP, "by": "alice", "owner": LEDGER, "reader": "audit", "granted": True},
    Kind.MEMORY_EMBEDDED: {"tenant": SHOP, "by": "upkeep", "model": DIGEST, "records": ["r1", "r2"]},
}
_KEPT_EVENTS: Mapping[Kind, Any] = {
    Kind.MEMORY_RESTORED: {"tenant": SHOP, "by": "alice", "records": [["r1", 3, DIGEST]], "snapshot": "5e" * 32},
    Kind.MEMORY_CERTIFIED: {"tenant": SHOP, "by": "alice", "certificate": "c1", "digest": DIGEST},
}
_AUDIT_EVENTS: Mapping[Kind, Any] = {
    Kind.JOURNAL_COMPACTED: {
        "entries": 400,
        "digest": DIGEST.removeprefix("sha256:"),
        "removed": 22,
        "tasks": 1,
        "before_ms": 1_732_176_000_000,
        "archive": "coordinator-0-1.jsonl.gz",
        "by": "cli",
    },
}

_LIMIT_EVENTS: Mapping[Kind, Any] = {
    Kind.BREAKER_OPENED: {
        "agent": LEDGER,
        "capability": DEPOSIT,
        "failures": 5,
        "code": "timed_out",
        "seconds": 1.0,
    },
    Kind.BREAKER_HALF_OPEN: {"agent": LEDGER, "capability": DEPOSIT},
    Kind.BREAKER_CLOSED: {"agent": LEDGER, "capability": DEPOSIT, "reason": "it works again"},
    Kind.STEP_SUSPECTED: {"agent": LEDGER, "attempt": 1, "deaths": 2},
}

_HOLD_EVENTS: Mapping[Kind, Any] = {
    Kind.STEP_HELD: {
        "agent": LEDGER,
        "attempt": 3,
        "error": Overloaded().to_data(),
        "why": "outcome_unknown",
        "question": "Did ledger.deposit (step pay) happen?",
        "choices": {"happened": "it happened", "not_happened": "it did not happen"},
    },
    Kind.STEP_RESUMED: {"choice": "happened", "by": "alice", "note": "seen", "result": {"id": 7}, "output": None},
}


_TRAVEL_EVENTS: Mapping[Kind, Any] = {
    Kind.STEP_INHERITED: {
        "task": "0193f3c0-0000-7005-8000-000000000002",
        "step": STEP,
        "sequence": 12,
        "agent": LEDGER,
        "version": "1.2",
        "input": DIGEST,
        "output": ODD,
        "error": None,
    },
    Kind.TASK_REPINNED: {
        "pins": {DEPOSIT: {"version": "2.0", "effect": "irreversible", "undo": None, "contract": DIGEST}},
        "by": "hanse up",
        "reason": "migrated to ledger.deposit@2.0",
    },
}

TERMS: Any = {
    "quorum": 2,
    "approvers": ["ann", "bob"],
    "delegates": {"ann": "eve"},
    "four_eyes": True,
    "minutes": 2.0,
    "day": "2026-11-21",
    "about": "ledger.deposit above 500",
    "amount": 501,
    "escalate_ms": 1_732_180_000_000,
    "escalate_to": ["boss"],
}
_ROWS = [{"label": "rule", "value": "ledger.deposit above 500 (cents = 501)"}]

_MONEY_EVENTS: Mapping[Kind, Any] = {
    Kind.TASK_SUBMITTED: _EVENTS[Kind.TASK_SUBMITTED]
    | {"budget": {"tokens": 900, "seconds": 60.0, "human_minutes": 4.0}},
    Kind.STEP_AWARDED: _EVENTS[Kind.STEP_AWARDED] | {"reserved": {"day": "2026-11-21", "cents": 2.5, "tokens": 300}},
    Kind.STEP_HELD: _HOLD_EVENTS[Kind.STEP_HELD] | {"spent_cents": 0.25, "spent_tokens": 137},
    Kind.STEP_COMPLETED: _EVENTS[Kind.STEP_COMPLETED] | {"model_cents": 0.25, "model_tokens": 137},
    Kind.STEP_FAILED: _EVENTS[Kind.STEP_FAILED] | {"spent_cents": 0.25, "spent_tokens": 137},
    Kind.APPROVAL_REQUESTED: _EVENTS[Kind.APPROVAL_REQUESTED] | {"plan": DIGEST, "terms": TERMS, "material": _ROWS},
    Kind.APPROVAL_VOTED: {"approval": f"{TASK}:pay", "digest": DIGEST, "by": "eve", "seat": "ann", "note": "fine"},
    Kind.APPROVAL_EDITED: {
        "approval": f"{TASK}:pay",
        "was": DIGEST,
        "digest": DIGEST,
        "input": {"cents": 4},
        "rule": "above 500 cents",
        "terms": TERMS,
        "material": _ROWS,
        "by": "bob",
        "note": "less",
    },
    Kind.APPROVAL_ESCALATED: {"approval": f"{TASK}:pay", "to": ["boss"]},
    Kind.APPROVAL_DECIDED: _EVENTS[Kind.APPROVAL_DECIDED] | {"plan": DIGEST, "seat": "bob"},
}


_CHILD = TaskId("01935f27-1e00-7000-9000-00000000000c")
_CHILD_EVENTS: Mapping[Kind, Any] = {
    Kind.STEP_DELEGATED: {"agent": LEDGER, "child": _CHILD, "call": DEPOSIT, "cents": 1.5},
    Kind.STEP_RETURNED: {"child": _CHILD, "status": "completed", "cost_cents": 1.25, "minutes": 2.0},
}


_SOURCES = {"private": ["contract ledger.deposit, step pay"], "untrusted": ["record r1, step look"]}
_LABEL_EVENTS: Mapping[Kind, Any] = {
    Kind.TASK_SUBMITTED: _MONEY_EVENTS[Kind.TASK_SUBMITTED] | {"data_labels": {"untrusted": ["label of the task"]}},
    Kind.STEP_AWARDED: _MONEY_EVENTS[Kind.STEP_AWARDED] | {"labels": sorted(_SOURCES), "cleared": ["private"]},
    Kind.STEP_COMPLETED: _MONEY_EVENTS[Kind.STEP_COMPLETED] | {"labels": {"untrusted": ["record r1"]}},
    Kind.APPROVAL_REQUESTED: _MONEY_EVENTS[Kind.APPROVAL_REQUESTED] | {"labels": _SOURCES},
    Kind.APPROVAL_DECIDED: _MONEY_EVENTS[Kind.APPROVAL_DECIDED] | {"labels": _SOURCES},
}


def _event(number: int, kind: Kind, data: Any) -> Event:
    of_task = not kind.startswith(("coordinator.", "agent.", "breaker.", "journal."))
    of_step = kind.startswith(("step.", "approval."))
    task, step = TASK if of_task else None, STEP if of_step else None
    return Event(Sequence(number), Epoch(17), 1_732_176_000_000 + number, kind, task, step, data)


_KNOWN = {**_EVENTS, **_MEMORY_EVENTS, **_HOLD_EVENTS}
EVENTS: Mapping[str, Event] = {
    f"{kind}.{3 if events is _LABEL_EVENTS else 2 if first == 401 and kind in _KNOWN else 1}": _event(i, kind, data)
    for first, events in (
        (1, _EVENTS),
        (201, _MEMORY_EVENTS),
        (301, _HOLD_EVENTS),
        (401, _MONEY_EVENTS),
        (501, _AUDIT_EVENTS),
        (501, _TRAVEL_EVENTS),
        (601, _LIMIT_EVENTS),
        (701, _CHILD_EVENTS),
        (801, _KEPT_EVENTS),
        (801, _LABEL_EVENTS),
    )
    for i, (kind, data) in enumerate(events.items(), first)
}


def bytes_of(name: str) -> bytes:
    """What is written today for an example."""
    return encode_event(EVENTS[name]) if name in EVENTS else encode(MESSAGES[name])


def write_missing() -> list[str]:
    """Makes the files of new examples. Returns their names."""
    FOLDER.mkdir(exist_ok=True)
    missing = [name for name in (*MESSAGES, *EVENTS) if not (FOLDER / f"{name}.bin").exists()]
    for name in missing:
        (FOLDER / f"{name}.bin").write_bytes(bytes_of(name))
    return missing


if __name__ == "__main__":
    print(*(write_missing() or ["nothing is missing"]), sep="\n")
