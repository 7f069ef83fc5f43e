"""One task on a terminal: its steps as a tree with marks, who bid, who got it and why, what waits for a person.

Pure: views and events in, something to print out. `tasks watch` draws it again with every event; a pipe gets
`plain_line` of each event instead.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ...contracts import (
    ApprovalView,
    BidView,
    BudgetView,
    Event,
    GroupView,
    HeldView,
    Kind,
    StepStatus,
    StepView,
    TaskStatus,
    TaskView,
)
from ...contracts.events import milliseconds, timestamp
from .text import clock, duration, inline, money, plain

MARKS: Mapping[StepStatus, tuple[str, str]] = {
    StepStatus.WAITING: ("·", "dim"),
    StepStatus.INPUT_REQUIRED: ("?", "bold yellow"),
    StepStatus.RETRYING: ("↻", "yellow"),
    StepStatus.WORKING: ("▶", "bold cyan"),
    StepStatus.COMPLETED: ("✓", "green"),
    StepStatus.SKIPPED: ("–", "dim"),
    StepStatus.FAILED: ("✗", "bold red"),
    StepStatus.COMPENSATED: ("↶", "magenta"),
}
"""Mark and style of a step. Marks differ by shape, so they can be told apart without colour."""

STATUS_STYLES: Mapping[TaskStatus, str] = {
    TaskStatus.COMPLETED: "bold green",
    TaskStatus.FAILED: "bold red",
    TaskStatus.REJECTED: "bold red",
    TaskStatus.CANCELED: "magenta",
    TaskStatus.INPUT_REQUIRED: "bold yellow",
    TaskStatus.AUTH_REQUIRED: "bold yellow",
}

BUDGET_UNITS = {"cents": "cents", "tokens": "tokens", "seconds": "s", "human_minutes": "minutes of people"}

MAX_SHOWN = 60
"""Steps of a plan that are drawn; the rest is counted."""


def task_view(
    task: TaskView,
    steps: Sequence[StepView],
    events: Sequence[Event] = (),
    approvals: Sequence[ApprovalView] = (),
) -> RenderableType:
    """The whole picture of one task."""
    parts: list[RenderableType] = [_head(task), _dag(steps, _troubles(events))]
    parts += [question(approval) for approval in approvals if approval.decision == "pending"]
    parts += [held_step(task.id, held) for held in task.held]
    parts += [Text(f"Error: {plain(task.error.detail)} [{task.error.code}]", style="red")] if task.error else []
    parts += [Text(f"Output: {inline(task.output, 400)}")] if task.status is TaskStatus.COMPLETED else []
    parts += [Text(f"What is known of it: {labels_words(task.output_labels)}")] if task.output_labels else []
    return Group(*parts)


def bar(done: int, total: int, width: int) -> Text:
    """How far, in characters that differ also without colour."""
    filled = min(width, width * done // total) if total else 0
    return Text.assemble(("━" * filled, "green"), ("╌" * (width - filled), "dim"))


def status_text(status: TaskStatus) -> Text:
    return Text(str(status), style=STATUS_STYLES.get(status, "cyan"))


def step_line(step: StepView, trouble: str = "", note: str = "") -> Text:
    """`✓ refund  payments.refund → payments  0.2¢  12 ms`."""
    mark, style = MARKS[step.status]
    line = Text.assemble((mark, style), " ", (plain(step.id), "bold"), "  ", plain(step.call))
    if step.agent:
        line.append(f" → {plain(step.agent)}", style="cyan")
    attempts = f"attempt {step.attempts}" if step.attempts > 1 else ""
    done = "" if step.progress is None or step.status is not StepStatus.WORKING else f"{step.progress:.0%}"
    said = plain(step.note, 60) if done else ""
    own = budget_words(step.budget) if step.budget else ""
    waits = ", ".join(f"waits for task {plain(child.task)}" for child in step.children if child.status is None)
    facts = (done, said, money(step.price_cents), own, duration(step.latency_ms), attempts, waits, trouble, note)
    line.append("".join(f"  {fact}" for fact in facts if fact), style="dim")
    return line


def labels_words(labels: Mapping[str, Sequence[str]]) -> str:
    """`untrusted (record r1, step read), private (contract crm.get, step s1; and 2 more)`."""
    return ", ".join(f"{plain(label)} ({_sources(labels[label])})" for label in sorted(labels))


def _sources(given: Sequence[str]) -> str:
    more = f"; and {len(given) - 1} more" if len(given) > 1 else ""
    return f"{plain(given[0], 120)}{more}" if given else "from nobody knows where"


def budget_words(view: BudgetView) -> str:
    """`task: 3.50¢ of 10¢ (1¢ reserved), 200 of 1000 tokens`: of what has a limit, what is spent and what is held."""
    pairs = ((name, getattr(view.limit, name)) for name in BUDGET_UNITS)
    parts = [_spent_words(view, name, limit) for name, limit in pairs if limit is not None]
    about = f"{view.level} {plain(view.of)}" if view.level == "tenant" else view.level
    return f"{about}: {', '.join(parts)}"


def _spent_words(view: BudgetView, name: str, limit: float) -> str:
    held = getattr(view.reserved, name)
    reserved = f" ({held:g} reserved)" if held else ""
    return f"{getattr(view.spent, name):g} of {limit:g} {BUDGET_UNITS[name]}{reserved}"


def question(approval: ApprovalView) -> RenderableType:
    """What a person is asked: the rule, the very input, and what to type."""
    shown = [Text.assemble((f"  {plain(row.label)}: ", "dim"), plain(row.value)) for row in approval.material]
    votes = (
        f"  {len(approval.votes)} of {approval.quorum} have said yes: {', '.join(map(plain, approval.votes)) or '-'}"
    )
    return Group(
        Text.assemble(("? ", "bold"), plain(approval.rule), style="yellow"),
        Text(f"  {approval.capability} with {inline(approval.input, 400)}"),
        *shown,
        *([Text(votes, style="dim")] if approval.quorum > 1 else []),
        Text(f"  hanse approvals approve {approval.id}   or   hanse approvals deny {approval.id}", style="bold"),
    )


def prompt(group: GroupView) -> RenderableType:
    """Many questions as one."""
    sums = f", together {group.sum:g} (from {group.min:g} to {group.max:g})" if group.sum is not None else ""
    askers = ", ".join(plain(each or "nobody") for each in group.requested_by)
    return Group(
        Text.assemble(("? ", "bold"), f"{group.count} x {plain(group.about)}{sums}", style="yellow"),
        Text(f"  asked by {askers}; such as {inline(group.example.input, 200)}"),
        Text(f"  hanse approvals approve --group {group.id}", style="bold"),
    )


def held_step(task: str, held: HeldView) -> RenderableType:
    """What holds a step up, and what a person may choose."""
    table = Table.grid(padding=(0, 2))
    for choice, meaning in held.choices.items():
        command = f"  hanse tasks resume {task} {choice} --step {held.step}"
        table.add_row(command, Text(plain(meaning, 200), style="dim"))
    return Group(Text.assemble(("! ", "bold"), plain(held.question, 400), style="bold red"), table)


def plain_line(event: Event) -> str | None:
    """One line for one event, for pipes and logs. None for what says nothing to a reader."""
    words = _WORDS.get(event.kind)
    if words is None:
        return None
    about = f" {plain(event.step)}" if event.step else ""
    said = words(event.data)
    return f"{clock(timestamp(event.at_ms))} {event.kind}{about}{': ' if said else ''}{said}"


def layers(steps: Sequence[StepView]) -> list[list[StepView]]:
    """Steps by the length of the longest way to them. Steps on one layer may run at the same time."""
    depths = _depths(steps)
    found: list[list[StepView]] = [[] for _ in range(max(depths.values(), default=-1) + 1)]
    for step in steps:
        found[depths[step.id]].append(step)
    return found


def _head(task: TaskView) -> RenderableType:
    took = milliseconds(task.updated_at) - milliseconds(task.created_at)
    line = Text.assemble(("task ", "dim"), task.id, "  ", status_text(task.status))
    line.append(f"  {task.steps_done}/{task.steps_total} steps")
    line.append("".join(f"  {fact}" for fact in (money(task.cost_cents), duration(took)) if fact), style="dim")
    if task.forked_from is not None:
        line.append(f"  forked from {plain(task.forked_from.task)} at {plain(task.forked_from.step)}", style="dim")
    if task.part_of:
        line.append(f"  part of {plain(task.part_of[-1].task)}, step {plain(task.part_of[-1].step)}", style="dim")
    spent = [Text(f"budget {budget_words(task.budget)}", style="dim")] if task.budget else []
    return Group(line, *spent, bar(task.steps_done, task.steps_total, 40))


def _dag(steps: Sequence[StepView], troubles: Mapping[str, str]) -> RenderableType:
    """Each step stands below the dependency that is deepest; what else it waits for is written behind it."""
    root = Tree("", hide_root=True, guide_style="dim")
    places = {"": root}
    ordered = [(depth, step) for depth, layer in enumerate(layers(steps)) for step in layer]
    depths = {step.id: depth for depth, step in ordered}
    for _, step in ordered[:MAX_SHOWN]:
        parent = max((need for need in _needs(step) if need in places), key=depths.__getitem__, default="")
        others = [need for need in step.depends_on if need != parent]
        places[step.id] = places[parent].add(_step(step, others, troubles.get(step.id, "")))
    if (left := len(steps) - MAX_SHOWN) > 0:
        root.add(Text(f"… and {left} more steps", style="dim"))
    return root


def _needs(step: StepView) -> list[str]:
    """What a step stands below: its dependencies; a member of a `for_each`, a compensation and a confirmation, their
    own step.
    """
    if step.id.endswith(("~", "+")):
        return [step.id[:-1]]
    return [step.id.partition("[")[0]] if step.id.endswith("]") else step.depends_on


def _step(step: StepView, others: Sequence[str], trouble: str) -> RenderableType:
    note = f"also after {', '.join(map(plain, others))}" if others else ""
    line = step_line(step, trouble, note)
    line.append(f"  {plain(step.reason)}" if step.reason else "", style="dim italic")
    below: list[RenderableType] = [_bids(step.bids, step.agent)] if len(step.bids) > 1 else []
    below += [Text(f"  {labels_words(step.labels)}", style="yellow")] if step.labels else []
    below += [Text(f"  {plain(step.error.detail)} [{step.error.code}]", style="red")] if step.error else []
    return Group(line, *below)


def _bids(bids: Iterable[BidView], winner: str | None) -> RenderableType:
    """What each agent offered; the winner in front."""
    table = Table.grid(padding=(0, 2))
    for bid in sorted(bids, key=lambda each: (each.agent != winner, bool(each.refusal), each.price_cents, each.agent)):
        mark = "»" if bid.agent == winner else "x" if bid.refusal else " "
        table.add_row(f"  {mark}", Text(plain(bid.agent)), Text(_offered(bid), style="dim"))
    return table


def _offered(bid: BidView) -> str:
    if bid.refusal:
        return f"declines: {plain(bid.refusal)}"
    return f"{money(bid.price_cents) or 'free'}, {duration(bid.latency_ms)}, queue {bid.queue_depth}"


def _troubles(events: Sequence[Event]) -> dict[str, str]:
    """Per step, what went wrong on the way: `2 × retry, interrupted`."""
    counts: dict[str, dict[str, int]] = {}
    for event in events:
        if event.step and (name := _trouble(event)):
            of_step = counts.setdefault(event.step, {})
            of_step[name] = of_step.get(name, 0) + 1
    return {step: ", ".join(_counted(name, count) for name, count in each.items()) for step, each in counts.items()}


def _trouble(event: Event) -> str:
    if event.kind is Kind.STEP_INTERRUPTED:
        return "interrupted"
    return "retry" if event.kind is Kind.STEP_FAILED and event.data.get("retry_at_ms") is not None else ""


def _counted(name: str, count: int) -> str:
    return name if count == 1 else f"{count} × {name}"


def _depths(steps: Sequence[StepView]) -> dict[str, int]:
    """Longest way to each step, one layer after the other. What is not among `steps` counts as done."""
    known = {step.id for step in steps}
    depths: dict[str, int] = {}
    layer, waiting = 0, list(steps)
    while waiting:
        ready = [step for step in waiting if all(need in depths for need in _needs(step) if need in known)]
        depths.update({step.id: layer for step in ready or waiting})
        waiting = [step for step in waiting if step.id not in depths]
        layer += 1
    return depths


def _award_words(data: Mapping[str, Any]) -> str:
    bids = ", ".join(_bid_words(bid) for bid in data.get("bids") or [])
    return f"to {plain(data.get('agent'))} ({plain(data.get('reason', ''))})" + (f"; bids: {bids}" if bids else "")


def _bid_words(bid: Mapping[str, Any]) -> str:
    if bid.get("refusal"):
        return f"{plain(bid['agent'])} declines: {plain(bid['refusal'])}"
    return f"{plain(bid['agent'])} {bid.get('price_cents', 0):g}¢ {duration(bid.get('latency_ms'))}"


def _error_words(data: Mapping[str, Any]) -> str:
    error = data.get("error") or {}
    again = ", will be tried again" if data.get("retry_at_ms") is not None else ""
    return f"{plain(error.get('detail', ''))} [{plain(error.get('code', 'error'))}]{again}"


def _completed_words(data: Mapping[str, Any]) -> str:
    replayed = ", from its receipt" if data.get("replayed") else ""
    took = f", took up what is {_names(data['labels'])}" if data.get("labels") else ""
    return f"by {plain(data.get('agent'))} in {duration(data.get('latency_ms')) or 'no time'}{replayed}{took}"


def _names(labels: Iterable[Any]) -> str:
    return ", ".join(sorted(plain(label) for label in labels))


def _asked_words(data: Mapping[str, Any]) -> str:
    labels = f" (with what is {_names(data['labels'])})" if data.get("labels") else ""
    return f"{plain(data.get('rule', ''))}{labels}; decide: hanse approvals approve {data.get('approval')}"


def _agent_and_reason(data: Mapping[str, Any]) -> str:
    return f"{plain(data.get('agent'))}: {plain(data.get('reason', ''))}"


def _circuit(data: Mapping[str, Any]) -> str:
    return f"{plain(data.get('capability'))} of {plain(data.get('agent'))}"


def _opened_words(data: Mapping[str, Any]) -> str:
    failures = f"{data.get('failures')} failures in a row, the last of them {plain(data.get('code'))}"
    return f"{_circuit(data)}: {failures}; left alone for {duration(1000 * data.get('seconds', 0))}"


def _reason(data: Mapping[str, Any]) -> str:
    return plain(data.get("reason", ""))


def _model_words(data: Mapping[str, Any]) -> str:
    cents = data.get("microcents")
    spent = f" {cents / 1e6:g}¢" if isinstance(cents, int | float) else ""
    return f"{plain(data.get('tier') or 'no tier')}{spent}"


def _records_words(data: Mapping[str, Any]) -> str:
    return f"{len(data.get('records', []))} records of {plain(data.get('tenant'))} by {plain(data.get('by'))}"


_WORDS: Mapping[Kind, Callable[[Mapping[str, Any]], str]] = {
    Kind.COORDINATOR_STARTED: lambda data: f"epoch {data.get('epoch')}, {data.get('tasks', 0)} open tasks",
    Kind.AGENT_JOINED: lambda data: plain(data.get("agent")),
    Kind.AGENT_LEFT: _agent_and_reason,
    Kind.BREAKER_OPENED: _opened_words,
    Kind.BREAKER_HALF_OPEN: lambda data: f"{_circuit(data)}: one call to see whether it works again",
    Kind.BREAKER_CLOSED: lambda data: f"{_circuit(data)}: {_reason(data)}",
    Kind.JOURNAL_COMPACTED: lambda data: (
        f"{data.get('removed')} entries of {data.get('tasks')} tasks by {plain(data.get('by') or 'nobody')}"
    ),
    Kind.TASK_SUBMITTED: lambda data: f"{len((data.get('plan') or {}).get('steps', []))} steps",
    Kind.TASK_REPINNED: lambda data: f"{', '.join(map(plain, data.get('pins') or ()))}: {_reason(data)}",
    Kind.TASK_CANCELING: _reason,
    Kind.TASK_ABORTING: _error_words,
    Kind.TASK_COMPLETED: lambda data: inline(data.get("output"), 200),
    Kind.TASK_FAILED: _error_words,
    Kind.TASK_CANCELED: _reason,
    Kind.STEP_EXPANDED: lambda data: f"{data.get('count')} members",
    Kind.STEP_SKIPPED: _reason,
    Kind.STEP_INHERITED: lambda data: (
        f"done by {plain(data.get('agent') or 'nobody')} in task {plain(data.get('task'))}"
    ),
    Kind.STEP_AWARDED: _award_words,
    Kind.STEP_DELEGATED: lambda data: f"{plain(data.get('call') or 'a plan')} as task {plain(data.get('child'))}",
    Kind.STEP_RETURNED: lambda data: f"task {plain(data.get('child'))} {plain(data.get('status'))}",
    Kind.STEP_INTERRUPTED: _agent_and_reason,
    Kind.STEP_SUSPECTED: lambda data: f"{plain(data.get('agent'))} died with it in hand, {data.get('deaths')} times",
    Kind.STEP_COMPLETED: _completed_words,
    Kind.STEP_FAILED: _error_words,
    Kind.STEP_HELD: lambda data: f"{plain(data.get('question', ''), 300)} hanse tasks resume",
    Kind.STEP_RESUMED: lambda data: f"{data.get('choice')} by {plain(data.get('by') or 'nobody')}",
    Kind.APPROVAL_REQUESTED: _asked_words,
    Kind.APPROVAL_VOTED: lambda data: f"yes by {plain(data.get('by') or 'nobody')}",
    Kind.APPROVAL_EDITED: lambda data: f"input changed by {plain(data.get('by') or 'nobody')}",
    Kind.APPROVAL_ESCALATED: lambda data: f"to {plain(', '.join(data.get('to') or []))}",
    Kind.APPROVAL_DECIDED: lambda data: f"{data.get('decision')} by {plain(data.get('by') or 'nobody')}",
    Kind.MODEL_RESERVED: _model_words,
    Kind.MODEL_ROUTED: lambda data: f"{_model_words(data)} {_reason(data)}",
    Kind.MODEL_CALLED: lambda data: f"{_model_words(data)} {plain(data.get('outcome') or '')}",
    Kind.MODEL_SETTLED: _model_words,
    Kind.MODEL_LAPSED: _model_words,
    Kind.MODEL_SHADOWED: lambda data: f"{_model_words(data)} {plain(data.get('shadow') or '')}",
    Kind.MODEL_PURGED: lambda data: f"{data.get('entries')} answers by {plain(data.get('by') or 'nobody')}",
    Kind.MEMORY_REMEMBERED: _records_words,
    Kind.MEMORY_REVISED: _records_words,
    Kind.MEMORY_PINNED: _records_words,
    Kind.MEMORY_FORGOTTEN: lambda data: f"{_records_words(data)}, {plain(data.get('cause'))} {_reason(data)}".rstrip(),
    Kind.MEMORY_EMBEDDED: _records_words,
    Kind.MEMORY_RESTORED: _records_words,
    Kind.MEMORY_CERTIFIED: lambda data: f"certificate {plain(data.get('certificate'))} for {plain(data.get('by'))}",
    Kind.MEMORY_GRANTED: lambda data: f"{plain(data.get('owner'))} to {plain(data.get('reader'))}",
}
