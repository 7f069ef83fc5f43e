"""What policy says of a plan before anything of it runs: whether labels that are known from the start must reach a step
that a rule refuses.

What is known: labels of what the task is begun with, and those that contracts give their answers. They travel along
the plan's references as they will when it runs; a handler may add to them and take none away. So a rule that refuses
them for sure refuses the plan, at its door and not after half of it was done and has to be undone. Where it is not sure
(a step that may be skipped or is optional, a rule that looks at an amount, a rule before it that further labels may
bring in) nothing is said here, and the step is judged when it is its turn.
"""

from collections.abc import Callable, Iterator, Mapping

from ..contracts import Contract, Plan, Step, StepId
from ..contracts.labels import OUTWARD, Marks, joined, marked
from ..contracts.schema import pointer
from .approvals import Ruling, Situation

Foregone = Callable[[Contract, Situation], Ruling | None]
"""The ruling that stands whatever else comes up; None where there is none. See `Rulebook.foregone`."""


def check_foregone(
    plan: Plan, contracts: Mapping[StepId, Contract], begun: Marks, of_task: Mapping[str, str], foregone: Foregone
) -> None:
    """Raises NotAllowed, naming the first step that a rule refuses for sure."""
    for i, step in enumerate(plan.steps):
        made_of = [*_ancestors(plan, step)]
        if not all(map(_runs_for_sure, made_of)):
            continue
        marks = joined(begun, *(_of_contract(each, contracts[each.id]) for each in made_of))
        ruling = foregone(contracts[step.id], Situation(of_task, marks=marks))
        if ruling is not None:
            where = "; ".join(f"{label}: {', '.join(marks[label])}" for label in sorted(marks))
            error = ruling.refusal(step.id).about(pointer=pointer("steps", i), capability=step.call)
            error.detail = f"{error.detail}. Nothing was started. What would reach it: {where or 'nothing labelled'}"
            raise error


def _ancestors(plan: Plan, step: Step) -> Iterator[Step]:
    """The step itself, and all whose outputs it is made of, however far away."""
    seen, open_ = set[StepId](), [step.id]
    while open_:
        if (id := open_.pop()) not in seen:
            seen.add(id)
            open_ += plan.sources[id]
    return (each for each in plan.steps if each.id in seen)


def _runs_for_sure(step: Step) -> bool:
    return step.when is None and step.for_each is None and not step.optional


def _of_contract(step: Step, contract: Contract) -> Marks:
    return marked([label for label in contract.labels if label != OUTWARD], f"contract {step.call}, step {step.id}")
