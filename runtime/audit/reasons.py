"""Checks a bundle, and tells its task as a chain of reasons: who asked, what was planned, who bid, who was awarded and
under which rule and token, who approved, what came of it, and what the agents' own books say.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ...contracts import Event, HanseError, InvalidInput, Kind, StepId, digest
from ...contracts.events import timestamp
from ...contracts.ids import COORDINATORS
from ..execution import Run, StepRun, fold
from .bundle import BUNDLE, text_of
from .head import SignedHead
from .proofs import PROOF, Findings, Included, check_proof, problems_of_head


def check(data: Mapping[str, Any], key: bytes | None, anchored: Sequence[SignedHead] | None = None) -> Findings:
    """Whether a proof or a bundle holds, with nothing but the file and the public key.

    With `anchored`, the head of a coordinator's journal must be one that an anchor holds. Raises InvalidInput for what
    is neither.
    """
    if data.get("kind") == PROOF:
        found, heads = check_proof(data, key), [SignedHead.from_data(data["head"])]
    elif data.get("kind") == BUNDLE:
        found, heads = _check_bundle(data, key), [*_heads(data)]
    else:
        raise InvalidInput(f"this is neither a proof nor a bundle: its kind is {data.get('kind')!r:.80}")
    return found if anchored is None else Findings(found.lines, [*found.problems, *_not_anchored(heads, anchored)])


def _heads(data: Mapping[str, Any]) -> Iterator[SignedHead]:
    yield from (SignedHead.from_data(each["head"]) for each in data["journals"])
    for child in data.get("children", ()):
        yield from _heads(child)


def _not_anchored(heads: Sequence[SignedHead], anchored: Sequence[SignedHead]) -> list[str]:
    known = {(each.journal, each.sequence, each.hash, each.root) for each in anchored}
    return [
        f"no anchor holds the head of entry {head.sequence} of {head.journal}"
        for head in heads
        if head.journal.startswith(COORDINATORS)  # other journals may have been proved by a head of now
        if (head.journal, head.sequence, head.hash, head.root) not in known
    ]


def _check_bundle(data: Mapping[str, Any], key: bytes | None) -> Findings:
    try:
        return _read(data, key)[1]
    except (KeyError, TypeError, IndexError) as error:
        raise InvalidInput(f"this is no bundle: {type(error).__name__}: {error}") from error


def _read(data: Mapping[str, Any], key: bytes | None) -> tuple[Run | None, Findings]:
    """The task, where its entries are in order, and what is found of it and of its child tasks."""
    problems = _problems_of_signature(data, key)
    chapters = [_Chapter(each) for each in data["journals"]]
    problems += [problem for chapter in chapters for problem in chapter.problems(str(data["task"]), key)]
    if problems:
        return None, Findings([], problems)
    account = _Account(data, chapters)
    run = account.folded()
    found = account.findings(run)
    if run is not None:
        _add_children(found, run, data)
    return run, found


def _add_children(found: Findings, run: Run, data: Mapping[str, Any]) -> None:
    """Each child's own findings, by whoever signed the parent's, and whether both tell the same of it."""
    asked = {child: step for step in run.steps.values() for child in step.children}
    for bundle in data.get("children", ()):
        child, inner = _read(bundle, bytes.fromhex(data["key"]))
        found.lines.extend(f"  {line}" for line in inner.lines)
        found.problems.extend(f"child task {bundle['task']}: {problem}" for problem in inner.problems)
        step = asked.pop(str(bundle["task"]), None)
        found.problems.extend(_at_odds(run, step, child) if child else ())
    if "children" in data:  # until 0.2 a bundle had none
        lost = [child for child in asked if not any(child in each for each in data["missing"])]
        found.problems.extend(f"child task {child} is neither in the bundle nor said to be missing" for child in lost)


def _at_odds(run: Run, step: StepRun | None, child: Run) -> Iterator[str]:
    place = child.path[-1] if child.path else {}
    if step is None or (place.get("task"), place.get("step")) != (run.task, step.id):
        yield f"task {child.task} is no child task of {run.task}"
    elif (ended := step.children[child.task]["status"]) not in (None, str(child.status)):
        yield f"child task {child.task} ended as {child.status}, and not as {ended}"


def _problems_of_signature(data: Mapping[str, Any], key: bytes | None) -> list[str]:
    try:
        named, signature = bytes.fromhex(data["key"]), bytes.fromhex(data["signature"])
        if key is not None and named != key:
            return [f"the bundle is signed by {named.hex()}, and not by {key.hex()}"]
        Ed25519PublicKey.from_public_bytes(named).verify(signature, text_of(data))
    except (InvalidSignature, ValueError):
        return ["the signature of the bundle is not that of what it holds"]
    return []


class _Chapter:
    """What one journal says of the task."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.head = SignedHead.from_data(data["head"])
        self.included = [Included.from_data(each) for each in data["entries"]]

    def problems(self, task: str, key: bytes | None) -> Iterator[str]:
        yield from problems_of_head(self.head, key)
        last = 0
        for each in self.included:
            if each.sequence <= last:
                yield f"entry {each.sequence} of {self.head.journal} is out of order"
            last = each.sequence
            yield from self._problems_of_entry(each, task)

    def _problems_of_entry(self, included: Included, task: str) -> Iterator[str]:
        name = f"entry {included.sequence} of {self.head.journal}"
        if not included.is_in(self.head):
            yield f"{name} is not in the tree of the head"
            return
        try:
            event = included.event()
        except HanseError as error:
            yield f"{name}: {error.detail}"
            return
        if event.task != task:
            yield f"{name} is about another task"

    @property
    def events(self) -> list[Event]:
        return [each.event() for each in self.included]


class _Account:
    """The task, told from its entries."""

    def __init__(self, data: Mapping[str, Any], chapters: Sequence[_Chapter]) -> None:
        own = [chapter for chapter in chapters if chapter.head.journal.startswith(COORDINATORS)]
        if len(own) != 1 or not own[0].included:
            raise InvalidInput("the bundle does not hold the entries of one coordinator")
        self._data = data
        self._chapters = chapters
        self._events = own[0].events
        self._others = [event for chapter in chapters if chapter is not own[0] for event in chapter.events]
        self._receipts = {each["step"]: each for each in data["receipts"]}
        self._problems: list[str] = []

    def findings(self, run: Run | None) -> Findings:
        if run is None:
            return Findings([], self._problems)
        lines = [*self._opening(run), *(line for step in run.steps.values() for line in self._step(run, step))]
        lines += [*self._ending(run), *self._sources()]
        return Findings(lines, self._problems)

    def folded(self) -> Run | None:
        if self._events[0].kind is not Kind.TASK_SUBMITTED:
            self._problems.append("the first entry of the task is not that it was submitted")
            return None
        try:
            return fold(iter(self._events))
        except (AssertionError, KeyError, HanseError) as error:
            self._problems.append(f"the entries are no legal history of a task: {type(error).__name__}: {error}")
            return None

    def _opening(self, run: Run) -> Iterator[str]:
        said = self._events[0].data
        by = said.get("by") or "nobody named"
        yield f"task {run.task} of tenant {run.tenant}, asked for by {by} at {_at(self._events[0])}"
        plan = digest(said["plan"])
        yield f"  plan {plan} of {len(run.plan.steps)} steps: {', '.join(step.id for step in run.plan.steps)}"

    def _ending(self, run: Run) -> Iterator[str]:
        last = self._events[-1]
        if run.status.terminal:
            yield f"ended as {run.status} at {_at(last)}, output {digest(run.output)}"
        else:
            yield f"not ended: {run.status} as of entry {last.sequence}"

    # One step

    def _step(self, run: Run, step: StepRun) -> Iterator[str]:
        events = [event for event in self._events if event.step == step.id]
        if not events:
            return
        yield f"step {step.id}: {step.call}"
        for event in events:
            yield from (f"  {line}" for line in self._told(event))
        yield from (f"  {line}" for line in self._books(run, step))

    def _told(self, event: Event) -> Iterator[str]:
        said = event.data
        match event.kind:
            case Kind.STEP_AWARDED:
                yield from self._award(said)
            case Kind.APPROVAL_REQUESTED:
                yield f"a person was asked about {said['digest']}, because: {said['rule']}"
                yield from _sources(said)
            case Kind.APPROVAL_DECIDED:
                yield f"{said['decision']} by {said['by']} for {said['digest']} at {_at(event)}"
            case Kind.STEP_COMPLETED:
                replayed = ", from its receipt" if said.get("replayed") else ""
                yield f"completed by {said['agent']} at {_at(event)}, output {digest(said['output'])}{replayed}"
                yield from _sources(said)
            case Kind.STEP_FAILED:
                yield f"failed at {_at(event)}: {(said.get('error') or {}).get('detail', '')}"
            case Kind.STEP_DELEGATED:
                yield f"asked for the child task {said['child']} at {_at(event)}: {said['call'] or 'a plan of its own'}"
            case Kind.STEP_RETURNED:
                yield f"child task {said['child']} {said['status']} at {_at(event)} for {said['cost_cents']:g} cents"
            case _:
                yield f"{event.kind} at {_at(event)}"

    def _award(self, said: Mapping[str, Any]) -> Iterator[str]:
        for bid in said.get("bids") or []:
            refusal = bid.get("refusal")
            terms = f"declines: {refusal}" if refusal else f"{bid['price_cents']:g} cents, {bid['latency_ms']:g} ms"
            yield f"bid of {bid['agent']}: {terms}"
        yield f"awarded to {said['agent']} (attempt {said['attempt']}): {said['reason']}"
        yield f"allowed by the rule: {said.get('rule') or 'none is named'}"
        yield from _token(said)
        if labels := said.get("labels"):
            out = " and ".join(said.get("cleared") or ()) or "nothing of it"
            yield f"its data is {' and '.join(labels)}; cleared to go outward: {out}"
        yield f"for the input {said['input']}"

    def _books(self, run: Run, step: StepRun) -> Iterator[str]:
        """Whether plan, award, approval and receipt are about the same thing."""
        if not step.award:
            return
        awarded = step.award["input"]
        self._hold(
            digest(step.input) == awarded, f"step {step.id} was awarded for {awarded}, not for what the plan gives"
        )
        if (approval := step.approval) is not None and approval["decision"] == "approved":
            self._hold(approval["digest"] == awarded, f"what was approved for {step.id} is not what was awarded")
        if (receipt := self._receipts.get(step.id)) is None:
            if run.pin(step).effect.writes:
                yield "no receipt of it is in the bundle"
            return
        yield f"receipt at {receipt['agent']}: input {receipt['input']}, output {receipt['output']}"
        self._hold(receipt["input"] == awarded, f"the receipt of {step.id} is about another input than its award")
        outputs = [event.data["output"] for event in self._events if _completes(event, step.id)]
        self._hold(
            not outputs or receipt["output"] == digest(outputs[-1]),
            f"the receipt of {step.id} holds another output than the journal",
        )

    def _hold(self, condition: bool, problem: str) -> None:
        if not condition:
            self._problems.append(problem)

    # Beside the coordinator's journal

    def _sources(self) -> Iterator[str]:
        for effect in self._data["effects"]:
            if effect["connector"]:
                yield (
                    f"outside effect {effect['key']}: {effect['connector']}.{effect['operation']} {effect['status']}, "
                    f"request {effect['request']}, result {effect['result']}"
                )
        for event in self._others:
            yield f"{event.kind}{f' in step {event.step}' if event.step else ''}: {_source(event)}"
        for chapter in self._chapters:
            head = chapter.head
            yield f"proved against entry {head.sequence} of {head.journal}, tree {head.root.hex()}"
        yield from (f"not in this bundle: {each}" for each in self._data["missing"])


def _completes(event: Event, step: StepId) -> bool:
    return event.kind is Kind.STEP_COMPLETED and event.step == step


def _source(event: Event) -> str:
    """What of memory and models went into the task: digests, no words."""
    said = event.data
    if event.kind is Kind.MODEL_CALLED:
        return ", ".join(f"{name} {said.get(name)}" for name in ("tier", "model", "prompt", "answer"))
    if "records" in said:
        return f"records {', '.join(_record(each) for each in said['records'])}"
    return f"call {said.get('call')}, tier {said.get('tier')}"


def _record(said: Any) -> str:
    """An id, or id, version and the salted digest of what the record says."""
    return " ".join(map(str, said)) if isinstance(said, list) else str(said)


def _sources(said: Mapping[str, Any]) -> Iterator[str]:
    """What was known of the data, and from where."""
    for label, sources in (said.get("labels") or {}).items():
        yield f"{label}: {'; '.join(sources)}"


def _token(said: Mapping[str, Any]) -> Iterator[str]:
    """The token that the award minted, where the journal says how long it held."""
    if before := said.get("before"):
        price = f"{said['price_cents']:g} cents"
        yield f"token: {said['agent']} alone, for this input, for {price}, until {timestamp(before)}"


def _at(event: Event) -> str:
    return timestamp(event.at_ms)
