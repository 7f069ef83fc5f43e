"""Questions to people before a step runs: asked, voted on, changed, answered, escalated, expired.

An approval is bound to the digest of the step's very input and to that of its plan, to the labels of the data, and is
used once. It takes as many
people as its rule says, each known by their credential and counted once; one no is enough. What nobody decides in time
is denied. Whoever approves may change the input first: that is another question, to which their yes is the first one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..contracts import (
    ApprovalDenied,
    ApprovalExpired,
    Clock,
    Conflict,
    Contract,
    DigestMismatch,
    HanseError,
    InvalidInput,
    JsonObject,
    Kind,
    NotAllowed,
    Write,
    digest,
)
from ..contracts.events import timestamp
from ..contracts.ids import approval_id, step_key
from ..contracts.labels import ANY_BUT, NOT, noted
from ..contracts.plain import check
from ..contracts.views import ApprovalStatus, ApprovalView, MaterialRow
from ..contracts.wire import pack
from .approvals import AUTOMATIC, Ruling, Situation, seat_of, seen_digest
from .budgets import Budgets, day_of
from .checker import check_input
from .directory import Directory
from .driver import Driver
from .execution import Run, StepRun
from .journal import Journal
from .material import material
from .timers import Timers
from .views import edit_view, places

LATE = Ruling(False, "what it has taken up nobody was asked about, and this is not the time to ask", refused=True)
Gate = Callable[[Contract, Any, Situation], Ruling]
Minds = Callable[[Contract, Mapping[str, str]], frozenset[str]]
"""Labels of data that policy has a word about, of a contract in a task with these labels: see `Rulebook.minds`."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a person said to a question."""

    decision: ApprovalStatus
    digest: str
    """Of the input that they saw."""
    by: str
    """From their credential."""
    note: str = ""
    plan: str = ""
    """Digest of the plan that they saw; empty when they did not say."""
    input: Any = None
    """What should run instead; None for what they saw."""

    @property
    def is_yes(self) -> bool:
        return self.decision is ApprovalStatus.APPROVED


class Questions:
    """All questions of one shard."""

    def __init__(
        self,
        driver: Driver,
        directory: Directory,
        journal: Journal,
        timers: Timers,
        clock: Clock,
        gate: Gate,
        budgets: Budgets,
        *,
        minds: Minds | None = None,
        notices: bool = False,
    ) -> None:
        """`notices`: each question goes into the outbox too, for those who are to be told. `minds`: where handlers may
        take up labels that nobody knows of before.
        """
        self._driver, self._directory, self._journal = driver, directory, journal
        self._timers, self._clock, self._gate, self._budgets = timers, clock, gate, budgets
        self._minds, self._notices = minds, notices

    # Asking

    def ruling(self, run: Run, step: StepRun, contract: Contract) -> Ruling:
        """What policy says of this step. Undoing and confirming is never held up; nobody is asked the same twice.

        What an attempt has taken up is something else: policy looks at the step again when there is a label that it did
        not know of.
        """
        anew = run.labelled and _is_news(run, step)
        if step.settles or run.settles:
            return LATE if anew and self._holds_up(run, step, contract) else AUTOMATIC
        if run.winding_down:
            return LATE if anew else AUTOMATIC
        if (step.attempt or step.approval is not None) and not anew:
            return AUTOMATIC
        return self._gate(contract, step.input, _situation(run, step))

    def _holds_up(self, run: Run, step: StepRun, contract: Contract) -> bool:
        """What undoes or confirms, and has itself read on the way what may decide nothing, is a matter for a person: it
        is held, and goes on as soon as one says so.
        """
        if not step.settles or not step.attempt or step.resumed is not None:
            return False
        return not self._gate(contract, step.input, _situation(run, step)).lets_run

    def labels(self, run: Run, step: StepRun, contract: Contract) -> JsonObject:
        """What an award says of the data: its labels, and those of them that may go outward. A reversible step may
        turn out to send something out, so it is asked what policy would say to that.
        """
        marks = run.material(step)
        if not marks:
            return self._foreseen(run, step, contract)
        approved = _approved_labels(step)
        if step.settles or run.settles or approved.issuperset(marks):
            return {"labels": sorted(marks), "cleared": sorted(marks)}
        ruling = self._gate(contract, step.input, _situation(run, step)._replace(outward=True))
        return {"labels": sorted(marks), "cleared": sorted(marks if ruling.lets_run else approved & marks.keys())}

    def _foreseen(self, run: Run, step: StepRun, contract: Contract) -> JsonObject:
        """What its handler may take up and let out in this very run, because policy would say to it what it has said to
        the step without: so it runs once, and not again to be told. What a person has approved is approved as it was.
        """
        if self._minds is None or step.approval is not None or not (contract.effect.writes or contract.is_outward):
            return {}
        if step.settles or run.settles or run.winding_down:
            return {}
        minded = sorted(self._minds(contract, run.labels))
        return {"labels": [], "cleared": [ANY_BUT, *(f"{NOT}{label}" for label in minded)]}

    def ask(self, run: Run, step: StepRun, contract: Contract, ruling: Ruling) -> None:
        """Asks, unless no budget has the minutes that it takes of people's time: then the step fails."""
        if error := self._budgets.may_ask(run, step, ruling.terms.minutes * ruling.terms.quorum):
            self._driver.fail(run, step, error, None)
            return
        expires = ruling.expires_seconds and self._clock.now_ms() + round(ruling.expires_seconds * 1000)
        data = {
            "approval": approval_id(run.task, step.id),
            "capability": step.call,
            "input": step.input,
            "digest": digest(step.input),
            "rule": ruling.words,
            "expires_ms": expires,
            "plan": run.plan.digest,
            "terms": self._terms(ruling),
            "material": material(run, step, contract, ruling),
        } | noted(run.material(step))
        self._driver.record(run, Kind.APPROVAL_REQUESTED, step, data)
        self._keep(run, step, ApprovalStatus.PENDING)
        self._tell(run, step, "requested")
        self.take_up(run, step)

    def _terms(self, ruling: Ruling) -> JsonObject:
        """As the journal has them: moments instead of durations, so that a replay has the same ones."""
        now, terms = self._clock.now_ms(), ruling.terms
        escalates = terms.escalate_seconds and now + round(terms.escalate_seconds * 1000)
        own = {"day": day_of(now), "about": ruling.about, "amount": ruling.amount, "escalate_ms": escalates}
        return terms.to_data() | own

    # Deciding

    def decide(self, run: Run, step: StepRun, said: Said) -> None:
        """Takes a person's decision; the same one again changes nothing.

        Raises DigestMismatch when it was made about something else, NotAllowed for whoever may not decide, InvalidInput
        for a changed input that breaks the contract, Conflict when it was decided otherwise before or came too late.
        """
        _check_plan(run, step, said)
        if _was_said(step, said):
            return
        if step.asked is None:
            raise Conflict("this was decided before", approval=approval_id(run.task, step.id))
        if self._is_late(step):
            self._expire(run, step)
            raise Conflict("this came too late: the question has expired", approval=approval_id(run.task, step.id))
        _check_seen(step, said)
        edits = said.is_yes and said.input is not None and _digest_of(said.input) != step.asked["digest"]
        seat = self._seat(run, step, said, edits=edits)
        if edits:
            seat = self._edit(run, step, said)
        if seat is not None:
            self._take(run, step, said, seat)
        self._driver.advance(run)

    def _is_late(self, step: StepRun) -> bool:
        """By the wall clock, which may have jumped past the timer."""
        expires = (step.asked or {}).get("expires_ms")
        return bool(expires) and self._clock.now_ms() >= expires

    def _seat(self, run: Run, step: StepRun, said: Said, *, edits: bool) -> str:
        """In whose place they decide. Raises NotAllowed, or Conflict when that place has said yes before."""
        terms = _terms_of(step)
        taken = [vote["seat"] for vote in step.votes]
        seat = seat_of(terms, said.by, taken)
        if seat is None:
            may = ", ".join(terms["approvers"])
            raise NotAllowed(f"{said.by or 'nobody'} may not decide this. It is for {may}", approval=_id(run, step))
        if said.is_yes and terms.get("four_eyes") and run.by in (said.by, seat):
            raise NotAllowed("whoever submitted a task may not approve it", approval=_id(run, step))
        if said.is_yes and not edits and seat in taken:
            raise Conflict(f"{seat} has said yes before, and another one is needed", approval=_id(run, step))
        return seat

    def _take(self, run: Run, step: StepRun, said: Said, seat: str) -> None:
        """Ends the question with a no, or with the last yes that was missing. Any other yes is counted."""
        if said.is_yes and len(step.votes) + 1 < _terms_of(step).get("quorum", 1):
            self._vote(run, step, said, seat)
        else:
            self._decide(run, step, said.decision, said.by, said.note, seat)

    def _vote(self, run: Run, step: StepRun, said: Said, seat: str) -> None:
        asked = step.asked
        assert asked is not None
        data = {"approval": asked["approval"], "digest": asked["digest"], "by": said.by, "seat": seat}
        self._driver.record(run, Kind.APPROVAL_VOTED, step, data | {"note": said.note} | _labels_in(asked))
        self._keep(run, step, ApprovalStatus.PENDING)

    def _edit(self, run: Run, step: StepRun, said: Said) -> str | None:
        """Puts another input in place of what was asked about. The rules look at it anew, and who has said yes before
        has said it to something else. Gives the editor's seat, or None when the rules give the new input to others.

        Where no rule asks about the new input, the old terms hold: an edit is no way around a second pair of eyes.
        """
        asked = step.asked
        assert asked is not None
        contract = self._directory.contract(step.call, run.version(step))
        _check_input(contract, said.input)
        ruling = self._gate(contract, said.input, _situation(run, step))
        if ruling.refused:
            raise ruling.refusal(step.id)
        terms = self._terms(ruling) if ruling.review else _terms_of(step)
        wanted = terms["minutes"] * terms["quorum"] - step.reserved.minutes
        if error := self._budgets.may_ask(run, step, max(0.0, wanted)):
            raise error
        step_input, step.input = step.input, said.input
        rows = material(run, step, contract, ruling)
        step.input = step_input
        data = {
            "approval": asked["approval"],
            "was": asked["digest"],
            "digest": digest(said.input),
            "input": said.input,
            "rule": ruling.words if ruling.review else asked["rule"],
            "terms": terms,
            "material": [*rows, {"label": "changed by", "value": said.by}],
            "by": said.by,
            "note": said.note,
        }
        self._driver.record(run, Kind.APPROVAL_EDITED, step, data)
        self._keep(run, step, ApprovalStatus.PENDING)
        self.take_up(run, step)
        seat = seat_of(terms, said.by)
        return None if seat is None or (terms["four_eyes"] and run.by in (said.by, seat)) else seat

    @staticmethod
    def objection(run: Run, step: StepRun) -> HanseError | None:
        """Why the last decision for a step does not let it run; None when it does, or when nobody was asked."""
        approval = step.approval
        if approval is None or approval["decision"] == ApprovalStatus.APPROVED:
            if approval is not None and not _covers(approval, run, step):
                return DigestMismatch(step=step.id)
            return None
        said = f"{approval['by']}: {approval['note']}" if approval["note"] else approval["by"]
        kind = ApprovalExpired if approval["decision"] == ApprovalStatus.EXPIRED else ApprovalDenied
        error = kind(f"{kind.__doc__} {approval['rule']}; {said}", approval=approval["approval"])
        return error.about(**done_before(step))

    def withdraw(self, run: Run) -> None:
        """Nobody needs the answers any more."""
        for step in run.asking.values():
            self._stop_clocks(run, step)
            self._keep(run, step, ApprovalStatus.VOID)

    # Time

    def take_up(self, run: Run, step: StepRun) -> None:
        """Sets the clocks of a question. Never for longer than it had when it was asked: a wall clock that was set back
        while nobody ran must not give it more.
        """
        asked, now = step.asked, self._clock.now_ms()
        if asked is None:
            return
        if expires := asked["expires_ms"]:
            at = min(expires, now + expires - step.asked_ms)
            self._timers.at(run.task, f"expire {step.id}", at, lambda: self._expire(run, step))
        if escalates := _terms_of(step).get("escalate_ms"):
            self._timers.at(run.task, f"escalate {step.id}", escalates, lambda: self._escalate(run, step))

    def _expire(self, run: Run, step: StepRun) -> None:
        if step.asked is not None and not run.status.terminal:
            self._tell(run, step, "expired")
            self._decide(run, step, ApprovalStatus.EXPIRED, "the clock", "", None)
            self._driver.advance(run)

    def _escalate(self, run: Run, step: StepRun) -> None:
        terms = _terms_of(step)
        if step.asked is not None and terms.get("escalate_ms") and not run.status.terminal:
            data = {"approval": step.asked["approval"], "to": terms["escalate_to"]}
            self._driver.record(run, Kind.APPROVAL_ESCALATED, step, data)
            self._keep(run, step, ApprovalStatus.PENDING)
            self._tell(run, step, "escalated")

    def _decide(self, run: Run, step: StepRun, decision: ApprovalStatus, by: str, note: str, seat: str | None) -> None:
        asked = step.asked
        assert asked is not None
        data = {
            "approval": asked["approval"],
            "decision": str(decision),
            "digest": asked["digest"],
            "rule": asked["rule"],
            "by": by,
            "note": note,
            "plan": asked.get("plan"),
            "seat": seat,
        } | _labels_in(asked)
        self._stop_clocks(run, step)
        self._keep(run, step, decision, by, note)
        self._driver.record(run, Kind.APPROVAL_DECIDED, step, data)

    def _stop_clocks(self, run: Run, step: StepRun) -> None:
        self._timers.cancel(run.task, f"expire {step.id}")
        self._timers.cancel(run.task, f"escalate {step.id}")

    # What is kept where lists are read, and who is told

    def _keep(self, run: Run, step: StepRun, decision: ApprovalStatus, by: str | None = None, note: str = "") -> None:
        view = _view(run, step, decision, by, note)
        row = (view.id, run.tenant, run.task, view.decision, pack(view.model_dump(mode="json")))
        self._journal.write(Write("write_approval", row))

    def _tell(self, run: Run, step: StepRun, what: str) -> None:
        """Into the outbox, in the same commit as the event: what is journaled is told, also after a crash."""
        if self._notices:
            view, now = _view(run, step, ApprovalStatus.PENDING, None, ""), self._clock.now_ms()
            body = {"what": f"approval.{what}", "at": timestamp(now), "approval": view.model_dump(mode="json")}
            body |= {"tenant": run.tenant, "to": _terms_of(step).get("escalate_to", []) if what == "escalated" else []}
            self._journal.write(Write("insert_notice", (f"{view.id}#{what}", run.tenant, pack(body))))


def done_before(step: StepRun) -> JsonObject:
    """Effects that the last attempt had had before something else of it was refused: they stand, and a person must
    know."""
    done = (step.error or {}).get("ids", {}).get("effects_done")
    return {"effects_done": done} if done and step.begun else {}


def _digest_of(input: Any) -> str:
    """Raises InvalidInput for what is no plain data."""
    check(input)
    return digest(input)


def _situation(run: Run, step: StepRun) -> Situation:
    return Situation(run.labels, step_key(run.task, step.id), run.material(step), step.uncleared)


def _terms_of(step: StepRun) -> JsonObject:
    """Questions of earlier versions have none."""
    return (step.asked or {}).get("terms") or {"quorum": 1, "approvers": [], "delegates": {}, "four_eyes": False} | {
        "minutes": 0.0,
        "day": "",
        "about": "",
        "amount": None,
        "escalate_ms": None,
        "escalate_to": [],
    }


def _id(run: Run, step: StepRun) -> str:
    return approval_id(run.task, step.id)


def _was_said(step: StepRun, said: Said) -> bool:
    """Whether this very decision was taken before: then it is no other one."""
    seen, labels = {said.digest}, _labels_in(step.asked or step.approval or {})
    edited = step.edited
    if edited is not None and said.input is not None and seen_digest({"digest": edited["was"]} | labels) == said.digest:
        same = edited["by"] == said.by and edited["digest"] == digest(said.input)
        seen = {seen_digest({"digest": edited["digest"]} | labels)} if same else set[str]()
    made = [*step.votes] + ([step.approval] if step.approval else [])
    yes_or_no = {str(said.decision)}
    return any(
        each["by"] == said.by and seen_digest(each) in seen and each.get("decision", "approved") in yes_or_no
        for each in made
    ) and (said.input is None or seen_digest({"digest": digest(said.input)} | labels) in seen)


def _labels_in(asked: Mapping[str, Any]) -> JsonObject:
    """Of a question, for what is said to it. Most have none."""
    return {"labels": asked["labels"]} if asked.get("labels") else {}


def _is_news(run: Run, step: StepRun) -> bool:
    """Whether policy has not looked at the step with all that is known of its data by now."""
    known = {*step.award.get("labels", ()), *((step.approval or {}).get("labels") or ())}
    return step.uncleared or not known.issuperset(run.material(step))


def _approved_labels(step: StepRun) -> frozenset[str]:
    """What a person has said may go into the step."""
    approval = step.approval or {}
    return frozenset(approval.get("labels") or ()) if approval.get("decision") == "approved" else frozenset()


def _check_plan(run: Run, step: StepRun, said: Said) -> None:
    if said.plan not in ("", run.plan.digest):
        raise DigestMismatch(
            "the digest is not that of the step's plan: read the approval again before deciding",
            approval=_id(run, step),
            expected=run.plan.digest,
        )


def _check_seen(step: StepRun, said: Said) -> None:
    asked = step.asked
    assert asked is not None
    if said.digest != seen_digest(asked):
        raise DigestMismatch(
            "the digest is not that of the waiting step: read the approval again before deciding",
            approval=asked["approval"],
            expected=seen_digest(asked),
        )


def _check_input(contract: Contract, input: Any) -> None:
    """Raises InvalidInput for what breaks the contract's schema."""
    try:
        check_input(contract, input)
    except HanseError as error:
        raise InvalidInput(error.detail, **error.ids) from None


def _covers(approval: Any, run: Run, step: StepRun) -> bool:
    """Whether it was given for this input in this plan."""
    return approval["digest"] == digest(step.input) and approval.get("plan") in (None, run.plan.digest)


def _view(run: Run, step: StepRun, decision: ApprovalStatus, by: str | None, note: str) -> ApprovalView:
    """What a person is asked, as the step that waits for it says."""
    asked, terms = step.asked, _terms_of(step)
    assert asked is not None
    expires = asked["expires_ms"]
    return ApprovalView(
        id=asked["approval"],
        task=run.task,
        step=step.id,
        capability=step.call,
        input=asked["input"],
        digest=seen_digest(asked),
        rule=asked["rule"],
        requested_at=timestamp(step.asked_ms),
        expires_at=timestamp(expires) if expires else None,
        decision=decision,
        by=by,
        note=note,
        plan=asked.get("plan") or "",
        requested_by=run.by,
        about=terms["about"],
        amount=terms["amount"],
        quorum=terms["quorum"],
        votes=[vote["by"] for vote in step.votes],
        approvers=terms["approvers"],
        material=[MaterialRow(**row) for row in asked.get("material") or []],
        edited=edit_view(step),
        labels=asked.get("labels") or {},
        part_of=places(run),
    )
