"""What happened, as the journal says it. The same words are used in logs, on the event stream and in tests."""

import datetime
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from .ids import Epoch, Sequence, StepId, TaskId
from .schema import JsonObject

FORMAT = 2
"""Of what the journal says and means. 1 is all that does not say: before there were holds, confirmations and replays.
A journal of any format is read by every later release; see `tests/data/journals/README.md`."""


class Kind(StrEnum):
    """Every kind of event. The comment is what `data` holds."""

    COORDINATOR_STARTED = "coordinator.started"
    """epoch, shard, tasks (how many it recovered), format (of what it writes)"""
    AGENT_JOINED = "agent.joined"
    """agent, domain, incarnation, capabilities, contract (digest of all its contracts)"""
    AGENT_LEFT = "agent.left"
    """agent, reason, in_flight"""
    JOURNAL_COMPACTED = "journal.compacted"
    """entries (of how many only hashes are left, now and from before), digest (over all of these), removed (how many
    of them now), tasks (how many ended tasks they belonged to), before_ms (those tasks had ended by then), archive
    (name of the file that holds the entries; null when they were not kept), by"""

    BREAKER_OPENED = "breaker.opened"
    """agent, capability, failures (in a row), code (of the last error), seconds (until the next probe)"""
    BREAKER_HALF_OPEN = "breaker.half_open"
    """agent, capability: one call goes through to see whether it works again"""
    BREAKER_CLOSED = "breaker.closed"
    """agent, capability, reason"""

    TASK_SUBMITTED = "task.submitted"
    """tenant, key, body (digest of what was asked), plan, input, pins (what the plan relies on of each contract),
    budget_cents, budget (what else it limits: tokens, seconds, human_minutes), deadline_ms, labels, priority, by,
    forked_from (task, step, by step what was done there, and data_labels as below; null for a task of its own), parent
    (of a child task: path, the steps it is part of, each with task, call, agent and input digest; settles, when the
    last of them undoes or confirms; null for a task of its own), model (the tier for all it asks of models; null where
    the router chooses), format, data_labels (of all that it was begun with, each with where it comes from; left out
    where there are none)"""
    TASK_REPINNED = "task.repinned"
    """pins (what the task relies on of these contracts from here on), by, reason"""
    TASK_CANCELING = "task.canceling"
    """reason, by"""
    TASK_ABORTING = "task.aborting"
    """error, step: compensation begins"""
    TASK_COMPLETED = "task.completed"
    """output, cost_cents"""
    TASK_FAILED = "task.failed"
    """error, cost_cents"""
    TASK_CANCELED = "task.canceled"
    """reason, cost_cents"""

    STEP_EXPANDED = "step.expanded"
    """count: a for_each became so many members"""
    STEP_SKIPPED = "step.skipped"
    """reason"""
    STEP_INHERITED = "step.inherited"
    """task, step, sequence (of that task's journal: where it was done), agent, version, input (digest), output, error
    (of an optional step that the plan lived without), labels (of what it gave, where there are any)"""
    STEP_AWARDED = "step.awarded"
    """agent, version, attempt, award, price_cents, reason, bids, rule (the policy that allowed it), input (digest),
    approval, weights (what the auction weighed; null for the first ones there were), reserved (at each level of the
    budget: cents, tokens, and the tenant's day; null where nothing is), before (when the token expires, unix
    milliseconds; its other caveats are the event's task, step and capability's, the tenant, the input digest, the
    price, and these two), labels (of what goes into it, where there are any), cleared (those of them that may go
    outward)"""
    STEP_DELEGATED = "step.delegated"
    """agent, child (task that the step has asked for), call (null for a plan), cents (that the child may spend; null
    for no limit)"""
    STEP_RETURNED = "step.returned"
    """child, status (that it ended with), cost_cents, minutes (of people's time)"""
    STEP_INTERRUPTED = "step.interrupted"
    """agent, attempt, reason: the outcome is unknown, the same call will be sent again"""
    STEP_SUSPECTED = "step.suspected"
    """agent, attempt, deaths: the process that had it died with it in hand, for so many times by now"""
    STEP_COMPLETED = "step.completed"
    """agent, attempt, output, latency_ms, replayed (the receipt existed already), model_cents (what of the price went
    to models), model_tokens, labels (that it has taken up beyond what it was given, each with where it comes from; left
    out where there are none)"""
    STEP_FAILED = "step.failed"
    """agent, attempt, error, retry_at_ms (null when there is no further attempt), max_attempts, retry_on (of the
    contract; null where the types of errors decide), spent_cents (what models took all the same, of what was
    reserved), spent_tokens"""

    STEP_HELD = "step.held"
    """agent, attempt, error, why (outcome_unknown, half_done, compensation_failed, confirmation_failed, person_needed,
    poisoned), question (in words), choices (what a person may choose, and what each means), spent_cents,
    spent_tokens"""
    STEP_RESUMED = "step.resumed"
    """choice, by, note, result (of the outside effect, as the person says), output (of the step done by hand)"""

    APPROVAL_REQUESTED = "approval.requested"
    """approval, capability, input, digest, rule, expires_ms, plan (digest), terms (quorum, approvers, delegates,
    four_eyes, minutes, day, about, amount, escalate_ms, escalate_to), material (rows that a person is shown), labels
    (of what goes into the step, each with where it comes from; left out where there are none, here and below)"""
    APPROVAL_VOTED = "approval.voted"
    """approval, digest, by, seat (in whose place), note, labels: a yes of several that are needed"""
    APPROVAL_EDITED = "approval.edited"
    """approval, was (digest), digest, input, rule, terms, material, by, note: earlier votes are void"""
    APPROVAL_ESCALATED = "approval.escalated"
    """approval, to: these may decide too"""
    APPROVAL_DECIDED = "approval.decided"
    """approval, decision (approved, denied, expired), digest, rule, by, note, plan (digest), seat (in whose place),
    labels (that were asked about)"""

    MEMORY_REMEMBERED = "memory.remembered"
    """tenant, by, records (of each its id, version, and the salted digest of what it says)"""
    MEMORY_REVISED = "memory.revised"
    """tenant, by, records (as above): other versions of them, each by its id"""
    MEMORY_PINNED = "memory.pinned"
    """tenant, by, records (as above), pinned"""
    MEMORY_FORGOTTEN = "memory.forgotten"
    """tenant, by, records (ids), derived (ids that went with them), cause (asked, expired, erased, replaced,
    evicted), reason (in the words of whoever asked, when they gave one)"""
    MEMORY_EMBEDDED = "memory.embedded"
    """tenant, by, model (digest), records (ids): vectors of versions that had none, or another model's"""
    MEMORY_GRANTED = "memory.granted"
    """tenant, by, owner, reader, granted (false when it was taken back)"""
    MEMORY_CERTIFIED = "memory.certified"
    """tenant, by, certificate (id), digest (of all that it says): what was erased has left the files"""
    MEMORY_RESTORED = "memory.restored"
    """tenant, by, records (of each version its id, number and salted digest), snapshot (seal of its manifest)"""

    MODEL_RESERVED = "model.reserved"
    """call, tenant, tier, microcents, until_ms: so much may be spent until then; written before the engine is asked"""
    MODEL_ROUTED = "model.routed"
    """call, tenant, subject (what was learned of: a capability), tier (where it begins), floor, reason, expected
    (cents by tier)"""
    MODEL_CALLED = "model.called"
    """call, tenant, by, agent, capability, subject, purpose, template (name and version of the prompt file), prompt
    (digest), answer (digest), outcome (accepted, or the code of the error), tier, model (digest), cached, scores,
    prompt_tokens, completion_tokens and microcents (of its attempts, and of what tiers did for it beside them, such as
    judging), latency_ms, shortened (turns left out), attempts"""
    MODEL_SETTLED = "model.settled"
    """call, tenant, tier, microcents: so much of what was reserved for this call at this tier was spent"""
    MODEL_LAPSED = "model.lapsed"
    """call, tenant, tier, microcents: nobody settled what was reserved, so it counts as spent"""
    MODEL_SHADOWED = "model.shadowed"
    """call, tenant, template (the one that answered), shadow (the one that ran beside), tier, outcome, answer, agrees,
    scores, microcents"""
    MODEL_PURGED = "model.purged"
    """tenant (null for all), by, entries: caches were emptied"""

    @property
    def ends_task(self) -> bool:
        return self in _ENDS


_ENDS = frozenset({Kind.TASK_COMPLETED, Kind.TASK_FAILED, Kind.TASK_CANCELED})


class Event(NamedTuple):
    """One entry of the journal. `sequence` orders; `at_ms` (unix milliseconds) only informs."""

    sequence: Sequence
    epoch: Epoch
    at_ms: int
    kind: Kind
    task: TaskId | None
    step: StepId | None
    data: Mapping[str, Any]

    def to_json(self) -> JsonObject:
        """As event streams and `--json` show it."""
        return {
            "sequence": self.sequence,
            "at": timestamp(self.at_ms),
            "kind": str(self.kind),
            "task": self.task,
            "step": self.step,
            "data": dict(self.data),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Event":
        return Event(
            Sequence(data["sequence"]),
            Epoch(0),
            milliseconds(data["at"]),
            Kind(data["kind"]),
            data["task"],
            data["step"],
            data["data"],
        )


_1970 = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)
"""Whole numbers all the way: in floating seconds a millisecond is lost now and then."""


def timestamp(unix_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    moment = _1970 + unix_ms * _MILLISECOND
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(text: str) -> int:
    """Unix milliseconds of an RFC 3339 timestamp, rounded down. Raises ValueError for anything else."""
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r:.80} does not say its offset from UTC")
    return (moment - _1970) // _MILLISECOND
