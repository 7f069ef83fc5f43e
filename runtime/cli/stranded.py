"""What `hanse up` says of open tasks that its agents would leave waiting, and what it does about them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from ...contracts import JsonObject
from .. import config
from ..config import Configuration
from ..contract_check import contracts
from ..store.place import place_of
from ..upgrades import Choice, Stranded, has_open_tasks, migrate, offered, stranded
from ..world import SystemClock, faults_from_environment
from .command import Ended, Session
from .exits import Exit
from .output import table
from .text import plain

CHOICES = (
    "Choose with --stranded what becomes of them: pin (they wait for an agent of their version), migrate (where the "
    "new contract can take the place of the old one), drain (put the agents of before back, and take no new tasks "
    "until these have ended), or ignore."
)


def weigh(session: Session, configuration: Configuration, data: Path, choice: Choice | None) -> None:
    """Returns when the federation may start. Raises Ended when somebody has to choose first, with what to choose from.

    Raises InvalidConfiguration for an agent that cannot be loaded, StorageError for a store that cannot be read.
    """
    place = place_of(data)
    if choice == Choice.IGNORE or not has_open_tasks(place):
        return
    config.importable(configuration.folder)
    found = stranded(place, offered(contracts(configuration)))
    if not found or choice in (Choice.PIN, Choice.DRAIN):
        return
    if choice == Choice.MIGRATE and all(each.migratable for each in found):
        count = asyncio.run(migrate(place, found, SystemClock(), "hanse up", faults_from_environment()))
        session.out.remark(f"{count} open tasks are migrated to the contracts of these agents")
        return
    session.out.show(_data(found, choice), lambda: _drawn(found, choice))
    raise Ended(Exit.FAILED)


def _data(found: Sequence[Stranded], choice: Choice | None) -> JsonObject:
    return {"started": False, "choice": choice, "stranded": [each.to_data() for each in found]}


def _drawn(found: Sequence[Stranded], choice: Choice | None) -> RenderableType:
    names = ("task", "needs", "planned under", "offered", "steps", "can it be migrated?")
    said = "These open tasks need contracts that no agent of this configuration offers. Nothing was started."
    if choice == Choice.MIGRATE:
        said = "Not all of these open tasks can be migrated, so none was. Nothing was started."
    rows = [_row(each) for each in found]
    return Group(Text(said, style="red"), table(*names, rows=rows, empty=""), Text(CHOICES, style="dim"))


def _row(each: Stranded) -> list[str]:
    why = "yes" if each.migratable else f"no: {'; '.join(each.objections)}"
    there = ", ".join(each.offered) or "nothing"
    return [each.task, each.capability, each.pinned, there, plain(", ".join(each.steps), 40), plain(why, 200)]
