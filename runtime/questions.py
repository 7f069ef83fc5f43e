"""Questions to people before a step runs: asked, answered, expired, kept where lists of them are read.

An approval is bound to the digest of the step's very input, is used once, and what nobody decides in time is denied.
"""

from collections.abc import Callable
from typing import Any

from ..contracts import (
    ApprovalDenied,
    ApprovalExpired,
    Clock,
    Conflict,
    Contract,
    DigestMismatch,
    HanseError,
    Kind,
    Write,
    digest,
)
from ..contracts.events import timestamp
from ..contracts.ids import approval_id
from ..contracts.views import ApprovalStatus, ApprovalView
from ..contracts.wire import pack
from .approvals import AUTOMATIC, Ruling
from .driver import Driver
from .execution import Run, StepRun
from .journal import Journal
from .timers import Timers

Gate = Callable[[Contract, Any], Ruling]


class Questions:
    """All questions of one shard."""

    def __init__(self, driver: Driver, journal: Journal, timers: Timers, clock: Clock, gate: Gate) -> None:
        self._driver = driver
        self._journal = journal
        self._timers = timers
        self._clock = clock
        self._gate = gate

    def ruling(self, run: Run, step: StepRun, contract: Contract) -> Ruling:
        """What policy says of this step. Undoing and confirming is never held up; nobody is asked the same twice."""
        if step.settles or run.winding_down or step.attempt or step.approval is not None:
            return AUTOMATIC
        return self._gate(contract, step.input)

    def ask(self, run: Run, step: StepRun, ruling: Ruling) -> None:
        expires = ruling.expires_seconds and self._clock.now_ms() + round(ruling.expires_seconds * 1000)
        data = {
            "approval": approval_id(run.task, step.id),
            "capability": step.call,
            "input": step.input,
            "digest": digest(step.input),
            "rule": ruling.words,
            "expires_ms": expires,
        }
        self._driver.record(run, Kind.APPROVAL_REQUESTED, step, data)
        self._keep(run, step, ApprovalStatus.PENDING)
        self.expire_later(run, step)

    def decide(self, run: Run, step: StepRun, decision: ApprovalStatus, digest_seen: str, by: str, note: str) -> None:
        """Takes a person's decision; the same one again changes nothing.

        Raises DigestMismatch when it was made about something else, Conflict when it was decided otherwise before.
        """
        asked, made = step.asked, step.approval
        if asked is None:
            if made and (made["decision"], made["digest"], made["by"]) == (str(decision), digest_seen, by):
                return
            raise Conflict("this was decided before", approval=approval_id(run.task, step.id))
        if digest_seen != asked["digest"]:
            raise DigestMismatch(
                "the digest is not that of the waiting step: read the approval again before deciding",
                approval=asked["approval"],
                expected=asked["digest"],
            )
        self._decide(run, step, decision, by, note)
        self._driver.advance(run)

    def objection(self, step: StepRun) -> HanseError | None:
        """Why the last decision for a step does not let it run; None when it does, or when nobody was asked."""
        approval = step.approval
        if approval is None or approval["decision"] == ApprovalStatus.APPROVED:
            if approval is not None and approval["digest"] != digest(step.input):
                return DigestMismatch(step=step.id)
            return None
        said = f"{approval['by']}: {approval['note']}" if approval["note"] else approval["by"]
        kind = ApprovalExpired if approval["decision"] == ApprovalStatus.EXPIRED else ApprovalDenied
        return kind(f"{kind.__doc__} {approval['rule']}; {said}", approval=approval["approval"])

    def withdraw(self, run: Run) -> None:
        """Nobody needs the answers any more."""
        for step in run.asking.values():
            self._timers.cancel(run.task, f"expire {step.id}")
            self._keep(run, step, ApprovalStatus.VOID)

    def expire_later(self, run: Run, step: StepRun) -> None:
        if step.asked and step.asked["expires_ms"]:
            self._timers.at(run.task, f"expire {step.id}", step.asked["expires_ms"], lambda: self._expire(run, step))

    def _expire(self, run: Run, step: StepRun) -> None:
        if step.asked is not None and not run.status.terminal:
            self._decide(run, step, ApprovalStatus.EXPIRED, "the clock", "")
            self._driver.advance(run)

    def _decide(self, run: Run, step: StepRun, decision: ApprovalStatus, by: str, note: str) -> None:
        asked = step.asked
        assert asked is not None
        data = {
            "approval": asked["approval"],
            "decision": str(decision),
            "digest": asked["digest"],
            "rule": asked["rule"],
            "by": by,
            "note": note,
        }
        self._timers.cancel(run.task, f"expire {step.id}")
        self._keep(run, step, decision, by, note)
        self._driver.record(run, Kind.APPROVAL_DECIDED, step, data)

    def _keep(self, run: Run, step: StepRun, decision: ApprovalStatus, by: str | None = None, note: str = "") -> None:
        view = _view(run, step, decision, by, note)
        row = (view.id, run.tenant, run.task, view.decision, pack(view.model_dump(mode="json")))
        self._journal.write(Write("write_approval", row))


def _view(run: Run, step: StepRun, decision: ApprovalStatus, by: str | None, note: str) -> ApprovalView:
    """What a person is asked, as the step that waits for it says."""
    asked = step.asked
    assert asked is not None
    expires = asked["expires_ms"]
    return ApprovalView(
        id=asked["approval"],
        task=run.task,
        step=step.id,
        capability=step.call,
        input=asked["input"],
        digest=asked["digest"],
        rule=asked["rule"],
        requested_at=timestamp(step.asked_ms),
        expires_at=timestamp(expires) if expires else None,
        decision=decision,
        by=by,
        note=note,
    )
