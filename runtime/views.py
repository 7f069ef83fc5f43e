"""Turns what the coordinator knows into what clients see."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..contracts import (
    AgentView,
    BidView,
    ChildView,
    EditView,
    ForkedFrom,
    HanseError,
    HeldView,
    PlaceView,
    Problem,
    StepId,
    StepStatus,
    StepView,
    TaskView,
)
from ..contracts.events import timestamp
from ..contracts.labels import to_data
from ..contracts.template import ABSENT
from .approvals import seen_digest
from .budgets import step_budget, task_budget
from .directory import Member
from .execution import Run, StepRun


def problem(error: HanseError) -> Problem:
    """RFC 9457's members for an error."""
    return Problem(
        base=error.to_data().get("base", ""),
        type=f"urn:hanse:error:{error.code}",
        title=error.title,
        status=error.status,
        detail=error.detail,
        code=error.code,
        ids=error.to_data()["ids"],
    )


def error_from(about: Problem) -> HanseError:
    """The error that a problem was made of."""
    return HanseError.from_data(about.model_dump(include={"code", "base", "detail", "ids", "status"}))


def problem_of(data: Mapping[str, Any] | None) -> Problem | None:
    return problem(HanseError.from_data(data)) if data else None


def task_view(run: Run) -> TaskView:
    top = [run.steps[step.id] for step in run.plan.steps]
    return TaskView(
        id=run.task,
        tenant=run.tenant,
        status=run.shown_status,
        created_at=timestamp(run.created_ms),
        updated_at=timestamp(run.updated_ms),
        idempotency_key=run.key,
        labels=dict(run.labels),
        deadline_at=timestamp(run.deadline_ms) if run.deadline_ms else None,
        budget_cents=run.budget_cents,
        cost_cents=run.spent_cents,
        budget=task_budget(run),
        steps_total=len(top),
        steps_done=sum(step.done for step in top),
        approvals=list(_approvals(run)),
        forked_from=_forked_from(run),
        part_of=places(run),
        model=run.model,
        held=[_held_view(step) for step in run.held.values()],
        output_labels=to_data(run.answer_marks()) if run.status.terminal else {},
        output=run.output,
        error=problem_of(run.error),
    )


def places(run: Run) -> list[PlaceView]:
    """The steps that a child task is part of. Empty for any other."""
    return [PlaceView(**{name: place[name] for name in PlaceView.model_fields}) for place in run.path]


def _approvals(run: Run) -> Iterator[str]:
    yield from (str(step.asked["approval"]) for step in run.asking.values() if step.asked)
    for children in run.children.values():
        for child in children.values():
            yield from _approvals(child)


def _forked_from(run: Run) -> ForkedFrom | None:
    origin = run.forked_from
    return origin and ForkedFrom(task=origin["task"], step=origin["step"], inherited=list(origin["steps"]))  # pyright: ignore[reportReturnType]


def _held_view(step: StepRun) -> HeldView:
    held = step.held or {}
    said = {name: held[name] for name in ("why", "question", "choices")}
    return HeldView(step=step.id, call=step.call, since=timestamp(step.held_ms), **said)


def step_views(run: Run) -> list[StepView]:
    """Every step, member and compensation, in the order of the plan."""
    return [_step_view(run, step) for step in _in_order(run)]


def agent_view(member: Member, objection: str, troubles: Sequence[str] = ()) -> AgentView:
    return AgentView(
        id=member.agent,
        domain=member.domain,
        description=member.description,
        healthy=not objection,
        reason=objection,
        host=member.host,
        node=member.node,
        pid=member.pid,
        queue_depth=member.offer.queue_depth,
        in_flight=member.in_flight,
        capabilities=[contract.full_name for contract in member.contracts.values()],
        troubles=list(troubles),
    )


def _in_order(run: Run) -> Iterator[StepRun]:
    for each in run.plan.steps:
        step = run.steps[each.id]
        yield step
        for member in step.members or ():
            yield member
            yield from _settling(run, member)
        yield from _settling(run, step)


def _settling(run: Run, step: StepRun) -> Iterator[StepRun]:
    for mark in "+~":
        if found := run.steps.get(StepId(f"{step.id}{mark}")):
            yield found


def _step_view(run: Run, step: StepRun) -> StepView:
    return StepView(
        id=step.id,
        call=step.call,
        status=step.status,
        depends_on=sorted(run.plan.dependencies[step.id]) if step.is_top else [],
        agent=step.agent,
        attempts=step.attempt,
        price_cents=step.award.get("price_cents", 0),
        model_cents=step.model_cents,
        model_tokens=step.model_tokens,
        budget=step_budget(run, step),
        latency_ms=step.latency_ms,
        reason=_waits(step) or step.reason or step.award.get("reason", ""),
        bids=[BidView(**bid) for bid in step.award.get("bids", ())],
        output=None if step.output is ABSENT else step.output,
        error=problem_of(step.error),
        progress=step.progress,
        note=step.note,
        edited=edit_view(step),
        children=[_child_view(child, about) for child, about in step.children.items()],
        labels=to_data(run.known_of(step)),
    )


def _child_view(child: str, about: Mapping[str, Any]) -> ChildView:
    return ChildView(task=child, call=about["call"], status=about["status"], cents=about["cents"])


def edit_view(step: StepRun) -> EditView | None:
    edited = step.edited
    if edited is None:
        return None
    labels = (step.asked or step.approval or {}).get("labels")
    was = seen_digest({"digest": edited["was"], "labels": labels})
    return EditView(by=edited["by"], was=was, note=edited["note"])


def _waits(step: StepRun) -> str:
    """What it waits for: parked, or in the hands of an agent that cannot go on with it."""
    return step.waits if step.parked or step.status is StepStatus.WORKING else ""
