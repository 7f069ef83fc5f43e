"""What every command has in common: its options, one event loop, and errors as one line and an exit code.

A command is a function whose first argument is a `Session`; the rest is its own arguments, as typer reads them.
`@command(app)` adds `--json`, `--url`, `--token`, `--config`, `--data` and `--debug` behind them.
"""

import asyncio
import inspect
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ...contracts import Failed, HanseError, InvalidInput
from ..client import Client
from ..config import Configuration
from .exits import Exit, exit_of
from .output import Output
from .reach import Options, reach

Reach = Callable[[Options], AbstractAsyncContextManager[Client]]


@dataclass(frozen=True)
class Session:
    """What a command works with."""

    options: Options
    out: Output
    reach: Reach = reach

    def client(self) -> AbstractAsyncContextManager[Client]:
        """The federation that the command is about."""
        return self.reach(self.options)

    def configuration(self) -> Configuration:
        return self.options.configuration()


class Ended(Exception):
    """A command is over with this exit code, and has said why."""

    def __init__(self, exit: Exit) -> None:
        super().__init__(exit)
        self.exit = exit


Body = Callable[..., "Awaitable[None] | None"]
Command = TypeVar("Command", bound=Body)


def command(app: typer.Typer, name: str | None = None, **settings: Any) -> Callable[[Command], Command]:
    """Makes a function a command of `app`."""

    def register(body: Command) -> Command:
        app.command(name or body.__name__.removesuffix("_"), **settings)(_shell(body))
        return body

    return register


def default(app: typer.Typer, body: Body) -> None:
    """Makes a function what `app` does when none of its commands is named."""
    app.callback(invoke_without_command=True)(_shell(body))


def _shell(body: Body) -> Callable[..., None]:
    """The function that typer sees: the command's own parameters and the common ones."""

    def shell(context: typer.Context, **given: Any) -> None:
        if context.invoked_subcommand is not None:
            return  # the command that was named does the work
        options = Options(**{name: given.pop(name) for name in _COMMON})
        run(body, Session(options, Output(json=options.json), context.obj or reach), given)

    signature = inspect.signature(body, eval_str=True)
    own = list(signature.parameters.values())[1:]
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own), *_COMMON.values()]
    shell.__name__, shell.__doc__ = body.__name__, body.__doc__
    shell.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    shell.__annotations__ = {each.name: each.annotation for each in parameters}
    return shell


def run(body: Body, session: Session, given: dict[str, Any]) -> None:
    """Runs one command to its end. Raises typer.Exit with the code that says how it went."""
    try:
        outcome = body(session, **{name: _read(value) for name, value in given.items()})
        if inspect.isawaitable(outcome):
            asyncio.run(_awaited(outcome))
    except Ended as ended:
        raise typer.Exit(ended.exit) from None
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: nothing more can be said
        raise typer.Exit(Exit.DONE) from None
    except HanseError as error:
        raise _explained(session, error, exit_of(error)) from None
    except Exception as error:
        raise _explained(session, _unexpected(error), Exit.FAILED) from None


def _read(word: Any) -> Any:
    """Words of the command line are UTF-8, whatever the locale says. Raises InvalidInput for what is not."""
    if isinstance(word, list):
        return [_read(each) for each in word]
    if not isinstance(word, str) or word.isascii():
        return word
    try:
        return os.fsencode(word).decode("utf-8")
    except UnicodeError:
        raise InvalidInput(f"{word!a} is not UTF-8") from None


async def _awaited(outcome: Awaitable[None]) -> None:
    await outcome


def _explained(session: Session, error: HanseError, exit: Exit) -> typer.Exit:
    """Says what went wrong, and with --debug where."""
    if session.options.debug:
        traceback.print_exc(file=sys.stderr)
    session.out.error(error)
    return typer.Exit(exit)


def _unexpected(error: Exception) -> HanseError:
    """A fault of Hanse itself. The exception is being handled, so --debug shows where it came from."""
    return Failed(
        f"Hanse did not expect this: {type(error).__name__}: {error}. Run it again with --debug and report it"
    )


def _option(name: str, annotation: Any, default: Any, help: str, *flags: str, **more: Any) -> inspect.Parameter:
    option = typer.Option(*flags, help=help, rich_help_panel="Common options", **more)
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=Annotated[annotation, option])


_COMMON = {
    each.name: each
    for each in (
        _option("json", bool, False, "Data on standard output, words on standard error.", "--json"),
        _option("url", str | None, None, "Gateway of the federation.", "--url", envvar="HANSE_URL"),
        _option("token", str | None, None, "Bearer token of the tenant.", "--token", envvar="HANSE_TOKEN"),
        _option("config", Path | None, None, "Instead of the nearest hanse.yaml.", "--config", "-c"),
        _option("data", Path | None, None, "Data folder of the running federation.", "--data"),
        _option("debug", bool, False, "Show where an error comes from.", "--debug"),
    )
}
