"""`hanse contracts`: the promises, checked before anything starts, and shown."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from ...contracts import Capability, Contract, InvalidConfiguration, JsonObject
from .. import config
from ..config import Configuration
from .command import Ended, Session, command
from .exits import Exit
from .output import table
from .text import count, json_text, money, plain

if TYPE_CHECKING:
    from ..contract_check import Finding, Offered

app = typer.Typer(help="What capabilities promise.", no_args_is_help=True)

What = Annotated[
    str | None, typer.Argument(help="A hanse.yaml, a folder with one, a .py file, a module, or module:Class.")
]


@command(app, "check")
def check_(session: Session, what: What = None) -> None:
    """Load the agents of a configuration and prove every contract, without starting anything.

    Every compensation exists and can be bound; approval rules fit something. Ends with 1 when something is to mend.
    """
    from ..contract_check import check

    configuration = _meant(session, what)
    config.importable(configuration.folder)
    agents, findings = check(configuration)
    session.out.show(_data(agents, findings), lambda: _drawn(agents, findings))
    if any(finding.severity == "error" for finding in findings):
        raise Ended(Exit.FAILED)


@command(app, "list")
async def list_(session: Session) -> None:
    """List the capabilities that the running federation offers."""
    async with session.client() as client:
        found = await client.capabilities()
    names = ("capability", "effect", "risk", "price", "undone by", "what it does")
    session.out.show(found, lambda: table(*names, rows=[_row(each) for each in found], empty="Nothing is offered."))


@command(app)
async def show(
    session: Session, capability: Annotated[str, typer.Argument(help="domain.method, or domain.method@1.2")]
) -> None:
    """Show one contract: input, output, effect, risk, price, compensation."""
    async with session.client() as client:
        contract = await client.capability(capability)
    session.out.show(contract, lambda: json_text(contract, pretty=True))


def _meant(session: Session, what: str | None) -> Configuration:
    """The configuration that the argument means. Raises InvalidConfiguration."""
    if what is None:
        return session.configuration()
    path = Path(what)
    if path.is_dir():
        return config.load(path / config.FILE)
    if path.suffix in (".yaml", ".yml"):
        return config.load(path)
    if path.suffix == ".py":
        if not path.is_file():
            raise InvalidConfiguration(f"there is no file {what}")
        config.importable(path.absolute().parent)
        return _agents_of(path.stem)
    config.importable(Path.cwd())
    return Configuration.for_agents([what]) if ":" in what else _agents_of(what)


def _agents_of(module: str) -> Configuration:
    """Every agent that a module defines. Raises InvalidConfiguration where it defines none."""
    config.load_module(module)
    found = [each for each in vars(sys.modules[module]).values() if _is_agent_of(each, module)]
    if not found:
        raise InvalidConfiguration(f"{module} defines no agent. Write: class Name(Agent): domain = …")
    return Configuration.for_agents(found)


def _is_agent_of(value: Any, module: str) -> bool:
    return isinstance(value, type) and value.__module__ == module and isinstance(getattr(value, "domain", None), str)


def _data(agents: "list[Offered]", findings: "list[Finding]") -> JsonObject:
    return {
        "ok": not any(finding.severity == "error" for finding in findings),
        "agents": {each.agent: [every.contract.to_data() for every in each.capabilities.values()] for each in agents},
        "findings": [finding.to_data() for finding in findings],
    }


def _drawn(agents: "list[Offered]", findings: "list[Finding]") -> RenderableType:
    rows = [_checked_row(offered.agent, each) for offered in agents for each in offered.capabilities.values()]
    names = ("agent", "capability", "effect", "risk", "price", "undone by")
    parts: list[RenderableType] = [table(*names, rows=rows, empty="There is no capability.")]
    parts += [_finding(each) for each in findings]
    errors = sum(finding.severity == "error" for finding in findings)
    verdict = f"{errors} to mend" if errors else "every contract holds"
    parts.append(
        Text(
            f"{count(len(rows), 'capability', 'capabilities')} of {count(len(agents), 'agent', 'agents')}: {verdict}",
            style="red" if errors else "green",
        )
    )
    return Group(*parts)


def _finding(finding: "Finding") -> Text:
    style = "red" if finding.severity == "error" else "yellow"
    return Text.assemble((f"{finding.severity}: ", style), (plain(finding.about), "bold"), f": {plain(finding.detail)}")


def _checked_row(agent: str, each: Capability) -> list[str]:
    return [agent, *_facts(each.contract)]


def _row(contract: Contract) -> list[str]:
    return [*_facts(contract), plain(contract.description.partition("\n")[0], 70)]


def _facts(contract: Contract) -> list[str]:
    undo = contract.compensation.capability if contract.compensation else ""
    return [contract.full_name, str(contract.effect), str(contract.risk), money(contract.price_cents), undo]
