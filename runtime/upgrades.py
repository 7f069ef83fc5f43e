"""Upgrades: which open tasks would be left stranded by the contracts of the agents that are about to start.

A task is pinned to the contract versions it was planned under, and its steps go only to agents that offer such a
version, or a later minor one of it. When none does any more, the task waits: nothing is lost, and nothing happens. So
before a federation starts, the pins of the open tasks on disk are compared with what its agents promise now, and
somebody chooses:

- `pin`: start, and let them wait until an agent of their version is there again;
- `migrate`: where the new contract can take the place of the old one (`compatibility`), the task is pinned to it, in
  the journal, before anything starts; where it cannot, nothing is migrated and the reasons are given;
- `drain`: start closed: open tasks go on, new ones are refused until the next start. Meant for the agents of before:
  put them back, drain, and upgrade when nothing is open any more;
- `ignore`: do not even look.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ..contracts import CapabilityName, Clock, Contract, JsonObject, Kind, StepStatus, StorageError, TaskId
from ..contracts.ports import Faults, NoFaults
from ..contracts.wire import decode_event
from .compatibility import objections
from .execution import Pin, Run, fold
from .faults import pass_by
from .folder import Shelf, shelves
from .journal import Journal
from .store.place import Place

Offered = Mapping[CapabilityName, list[Contract]]


class Choice(StrEnum):
    """What becomes of stranded tasks."""

    PIN = "pin"
    MIGRATE = "migrate"
    DRAIN = "drain"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Stranded:
    """One open task and one capability that it still needs, in a version that nobody offers."""

    store: str
    """The name of the coordinator's store."""
    task: TaskId
    tenant: str
    steps: tuple[str, ...]
    """That wait, or would wait, for it."""
    capability: CapabilityName
    pinned: str
    offered: tuple[str, ...]
    new: Contract | None
    """What could take its place, if anything of that name is offered."""
    objections: tuple[str, ...]
    """Why that cannot. Empty when it can."""

    @property
    def migratable(self) -> bool:
        return self.new is not None and not self.objections

    def to_data(self) -> JsonObject:
        return {
            "task": self.task,
            "tenant": self.tenant,
            "steps": list(self.steps),
            "capability": self.capability,
            "pinned": self.pinned,
            "offered": list(self.offered),
            "migratable": self.migratable,
            "objections": list(self.objections),
        }


def offered(contracts: Iterable[Contract]) -> dict[CapabilityName, list[Contract]]:
    found: dict[CapabilityName, list[Contract]] = {}
    for contract in contracts:
        found.setdefault(contract.name, []).append(contract)
    return found


def has_open_tasks(place: Place) -> bool:
    """Whether there is anything that could be stranded."""
    for shelf in shelves(place):
        with shelf:
            if shelf.open_tasks():
                return True
    return False


def stranded(place: Place, promised: Offered) -> list[Stranded]:
    """Every open task in these stores that would wait for an agent that nobody starts. Raises StorageError."""
    found: list[Stranded] = []
    for shelf in shelves(place):
        with shelf:
            for task in shelf.open_tasks():
                run = fold(decode_event(entry) for _, entry, _ in shelf.entries(task))
                if run is not None:
                    found += _of_task(shelf, run, promised)
    return found


def _of_task(shelf: Shelf, run: Run, promised: Offered) -> Iterable[Stranded]:
    for name, steps in _needed(run).items():
        pin, there = run.pins.get(name), promised.get(name, [])
        if pin is not None and not any(contract.satisfies(pin.version) for contract in there):
            new, reasons = _best(shelf, pin, there)
            versions = tuple(sorted({contract.version for contract in there}))
            yield Stranded(
                shelf.name, run.task, run.tenant, tuple(steps), name, pin.version, versions, new, tuple(reasons)
            )


def _needed(run: Run) -> dict[CapabilityName, list[str]]:
    """Capabilities that the task may still call: of steps that are not done, and to undo or confirm those that are."""
    needed: dict[CapabilityName, list[str]] = {}
    for step in run.steps.values():
        if not step.done and (not run.winding_down or step.settles or step.begun or step.agent):
            needed.setdefault(step.call, []).append(step.id)
        pin = run.pins.get(step.call)
        for other in (pin.compensation, pin.confirmation) if pin and not step.settles else ():
            if other is not None and (not step.done or step.status is StepStatus.COMPLETED):
                needed.setdefault(other.capability, []).append(step.id)
    return needed


def _best(shelf: Shelf, pin: Pin, there: list[Contract]) -> tuple[Contract | None, list[str]]:
    """Of what is offered the contract with the fewest objections, and those."""
    if not there:
        return None, ["no agent offers it any more"]
    old = shelf.contract(pin.contract) if pin.contract else None
    if old is None:
        return there[0], ["the contract that it was planned under was not written down"]
    return min(((new, objections(old, new)) for new in there), key=lambda each: len(each[1]))


async def migrate(
    place: Place, found: Iterable[Stranded], clock: Clock, by: str, faults_port: Faults | None = None
) -> int:
    """Pins tasks to the contracts that take the place of theirs; how many. On disk when this returns.

    Nothing else may have the stores open: whoever does is fenced off. Raises StorageError.
    """
    stores: dict[str, dict[TaskId, dict[str, Contract]]] = {}
    for each in found:
        assert each.new is not None
        stores.setdefault(each.store, {}).setdefault(each.task, {})[each.capability] = each.new
    for name, tasks in stores.items():
        await _repin(place, name, tasks, clock, by, faults_port or NoFaults())
    return sum(len(tasks) for tasks in stores.values())


async def _repin(
    place: Place,
    name: str,
    tasks: Mapping[TaskId, Mapping[str, Contract]],
    clock: Clock,
    by: str,
    faults_port: Faults,
) -> None:
    failures: list[BaseException] = []
    store = place.open(name, "journal")
    try:
        journal = Journal(store, clock, failures.append)
        for task, contracts in tasks.items():
            pins = {each: Pin.of(contract).to_data() for each, contract in contracts.items()}
            reason = ", ".join(contract.full_name for contract in contracts.values())
            journal.append(Kind.TASK_REPINNED, task, None, {"pins": pins, "by": by, "reason": f"migrated to {reason}"})
            pass_by(faults_port, journal, Kind.TASK_REPINNED)
        await journal.durable()
        await journal.stop()
    finally:
        await store.close()
    if failures:
        raise StorageError(f"tasks could not be migrated: {failures[0]}", path=place.where(name))
