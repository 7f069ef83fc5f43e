"""How a command ends: the exit codes, which of them an error means, and the one line that says what to do."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from ...contracts import (
    BudgetExhausted,
    Canceled,
    DigestMismatch,
    HanseError,
    InvalidConfiguration,
    InvalidContract,
    InvalidInput,
    InvalidPlan,
    KeyReused,
    NotAuthenticated,
    Overloaded,
    PolicyError,
    Problem,
    StorageError,
    TaskStatus,
    TaskView,
    TimedOut,
    TooLarge,
    Unavailable,
)
from ...contracts.memory import OF_SNAPSHOT
from .text import plain


class Exit(IntEnum):
    """What a script can rely on."""

    DONE = 0
    """It did what was asked."""
    FAILED = 1
    """The task failed, the check found something, the thing does not exist."""
    USAGE = 2
    """The command line, the configuration, the plan or the input is wrong; nothing was started."""
    UNREACHABLE = 3
    """No federation answers, or it has too much to do. Trying again is safe."""
    REFUSED = 4
    """A policy, a person, a budget or a missing token says no."""
    WAITING = 5
    """A person must decide first; the task keeps waiting."""
    UNFINISHED = 6
    """The time given to wait is over; the task goes on."""
    INTERRUPTED = 130
    """Ctrl-C. What was submitted goes on."""


_EXITS: tuple[tuple[tuple[type[HanseError], ...], Exit], ...] = (
    ((InvalidConfiguration, InvalidContract, InvalidInput, InvalidPlan, KeyReused, TooLarge), Exit.USAGE),
    ((PolicyError, NotAuthenticated, BudgetExhausted), Exit.REFUSED),
    ((TimedOut,), Exit.UNFINISHED),
    ((Unavailable, Overloaded, StorageError), Exit.UNREACHABLE),
)
"""The first row that fits decides; what fits none is FAILED."""

_ADVICE: tuple[tuple[type[HanseError], str], ...] = (
    (Overloaded, "Try again in {retry_after_seconds} s"),
    (NotAuthenticated, "Give the tenant's token: --token or HANSE_TOKEN"),
    (KeyReused, "The key stands for other work: take another --key"),
    (DigestMismatch, "It changed since you saw it: look again with hanse approvals list"),
    (InvalidPlan, "Nothing was started"),
    (InvalidInput, "Nothing was started"),
    (StorageError, "Look at disk and permissions: hanse doctor"),
)


_ANOTHER_COPY = (
    "Nothing was changed. If there is another copy: hanse memory restore --from PLACE. If the store itself is whole, "
    "take it anew: hanse memory snapshot --replace"
)


def exit_of(error: HanseError) -> Exit:
    """The exit code that an error means."""
    return next((exit for types, exit in _EXITS if isinstance(error, types)), Exit.FAILED)


def exit_of_task(task: TaskView) -> Exit:
    """The exit code that the state of a task means to who waited for it."""
    if task.status in (TaskStatus.INPUT_REQUIRED, TaskStatus.AUTH_REQUIRED):
        return Exit.WAITING
    if not task.status.terminal:
        return Exit.UNFINISHED
    if task.status is TaskStatus.COMPLETED:
        return Exit.DONE
    return exit_of_problem(task.error) if task.error else Exit.FAILED


def exit_of_problem(problem: Problem) -> Exit:
    """As for the error it came from. A domain's own refusal, whose class this process lacks, is told by its status."""
    error = HanseError.from_data({"code": problem.code, "branch": "", "detail": problem.detail, "ids": problem.ids})
    if isinstance(error, InvalidInput | InvalidPlan | TimedOut | Canceled):
        return Exit.FAILED
    return Exit.REFUSED if problem.status == PolicyError.status else exit_of(error)


def line(error: HanseError) -> str:
    """`DETAIL [code; task=…]. ADVICE`: one line, with the ids and what to do."""
    about = "; ".join([error.code, *_ids(error.ids)])
    detail = plain(error.detail).rstrip(".")
    advice = _advice(error)
    return f"{detail} [{about}]" + (f". {advice}" if advice else "")


def more(error: HanseError) -> list[str]:
    """Further problems of the same error, where it has several."""
    problems = error.ids.get("problems") or []
    return [
        plain(each if isinstance(each, str) else f"{each.get('pointer')}: {each.get('detail')}")
        for each in problems[1:]
    ]


def _ids(ids: Mapping[str, Any]) -> list[str]:
    shown = {name: value for name, value in ids.items() if name not in _IN_THE_DETAIL}
    return [f"{name}={plain(value, 80)}" for name, value in shown.items() if not isinstance(value, list | dict)]


_IN_THE_DETAIL = {"problems", "pointer", "file", "line", "retry_after_seconds", "of"}


def _advice(error: HanseError) -> str:
    if error.ids.get("of") == OF_SNAPSHOT:
        return _ANOTHER_COPY
    text = next((text for cls, text in _ADVICE if isinstance(error, cls)), "")
    if isinstance(error, InvalidInput | InvalidPlan) and (capability := error.ids.get("capability")):
        return f"{text}; what it takes: hanse contracts show {plain(capability, 100)}"
    seconds = f"{error.retry_after_seconds:g}" if isinstance(error, Overloaded) else ""
    return text.format(retry_after_seconds=seconds)
