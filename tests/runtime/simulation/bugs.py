# ruff: noqa: E501 - code is shown as it stands in its file
"""Bugs planted one at a time, to see that the simulator finds them.

    python tests/runtime/simulation/bugs.py                  # all of them, 2,000 seeds each at most
    python tests/runtime/simulation/bugs.py lost-receipt     # one

Each is a change of a line or two to a copy of the package, as somebody might make it who means well.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
FOLDERS = ("contracts", "agents", "runtime", "models", "memory")


@dataclass(frozen=True)
class Bug:
    """A change to one file."""

    name: str
    file: str
    right: str
    wrong: str


BUGS = (
    Bug(
        "acknowledged-too-early",
        "runtime/service.py",
        "        self._coordinator.journal.then(send, lambda error: self._refuse(link, request, error))",
        "        send()",
    ),
    Bug(
        "called-too-early",
        "runtime/coordinator.py",
        "        self.journal.then(lambda: self._roster.send(award))\n",
        "        self._roster.send(award)\n",
    ),
    Bug(
        "no-receipt-looked-for",
        "agents/engine.py",
        "if capability.contract.effect.writes and (receipt := self._receipt(call, wanted)):",
        "if False and (receipt := self._receipt(call, wanted)):",
    ),
    Bug(
        "answered-before-the-commit",
        "agents/engine.py",
        "        if commit is not None:\n            await self._durable(run, output, commit)\n",
        "",
    ),
    Bug(
        "same-key-forgotten",
        "runtime/service.py",
        '            rows = self._coordinator.store.read("task_by_key", (tenant, key))',
        "            rows = []",
    ),
    Bug(
        "not-sent-again",
        "runtime/seating.py",
        "            self._journal.then(lambda award=award: self._roster.send(award))",
        "            pass",
    ),
    Bug(
        "compensated-in-order",
        "runtime/execution.py",
        "            yield Start(self._prepared_to_undo(self._to_undo[-1]))",
        "            yield Start(self._prepared_to_undo(self._to_undo[0]))",
    ),
    Bug(
        "undone-while-in-flight",
        "runtime/execution.py",
        "        if not (self.in_flight or self.ready or self.held or ",
        "        if not (self.ready or self.held or ",
    ),
    Bug(
        "unknown-is-failed",
        "agents/effects.py",
        "        status = (\n            Status.UNKNOWN\n            if isinstance(error, OutcomeUnknown)",
        "        status = (\n            Status.RELEASED\n            if isinstance(error, OutcomeUnknown)",
    ),
    Bug(
        "asked-too-soon",
        "agents/ledger.py",
        "            if wait <= 0 or connector.repeatable:",
        "            if True:",
    ),
    Bug(
        "claim-not-kept",
        "agents/effects.py",
        "            await self._kept(*unsaved, *passed_over, claim)",
        "            self.entries[claim.key] = claim",
    ),
    Bug(
        "done-without-looking",
        "agents/effects.py",
        "        entry = found or wanted\n",
        "        entry = wanted\n",
    ),
    Bug(
        "in-flight-not-recovered",
        "runtime/coordinator.py",
        "        for step in run.in_flight.values():\n            if self._is_as_awarded(run, step):\n                self._roster.give(run, step)\n        for step in run.retrying",
        "        for step in run.retrying",
    ),
    Bug(
        "retries-not-recovered",
        "runtime/coordinator.py",
        "        for step in run.retrying.values():\n            self._retry_later(run, step)\n        for step in run.asking",
        "        for step in run.asking",
    ),
    Bug(
        "questions-never-expire-after-a-crash",
        "runtime/coordinator.py",
        "            self.questions.take_up(run, step)\n",
        "            pass\n",
    ),
    Bug(
        "approved-whatever-was-said",
        "runtime/questions.py",
        '        if approval is None or approval["decision"] == ApprovalStatus.APPROVED:',
        '        if approval is None or approval["decision"] in (ApprovalStatus.APPROVED, ApprovalStatus.DENIED):',
    ),
    Bug(
        "reservations-do-not-count",
        "runtime/budgets.py",
        "_less(run.budget_cents, run.reserved_cents, run.spent_cents)",
        "_less(run.budget_cents, run.spent_cents)",
    ),
    Bug(
        "stale-reads-admitted",
        "agents/runner.py",
        "        if not transaction.is_current():\n            raise Rerun\n        run.over = True\n        return output",
        "        run.over = True\n        return output",
    ),
    Bug(
        "lost-update-of-the-cache",
        "agents/rows.py",
        "            if row[1] == version:\n                del self._fresh[key]\n                self._recent.put(key, row)",
        "            del self._fresh[key]\n            self._recent.put(key, (writes[key], version))\n            self._fresh.setdefault(key, (writes[key], version))",
    ),
    Bug(
        "newcomer-wins",
        "runtime/seating.py",
        "            if (heir := self._roster.heir(agent)) is not None:\n                self._sit(agent, heir)\n",
        "",
    ),
    Bug(
        "nobody-tells-the-old-coordinator",
        "runtime/coordinator.py",
        "        if reign > self.store.epoch:",
        "        if reign > self.store.epoch + 1_000_000:",
    ),
    Bug(
        "another-child-each-time",
        "agents/tasks.py",
        'fitted(Delegation, {**request, "key": key, "budget_cents": cents, ',
        'fitted(Delegation, {**request, "key": f"{key}.{self._call.attempt}", "budget_cents": cents, ',
    ),
)


def planted(bug: Bug, folder: Path) -> Path:
    """A copy of the package with the bug. Raises ValueError when the code it changes is not there any more."""
    package = folder / "hanse"
    package.mkdir()
    shutil.copy(ROOT / "__init__.py", package)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    file = package / bug.file
    text = file.read_text(encoding="utf-8")
    if text.count(bug.right) != 1:
        raise ValueError(f"{bug.name}: {bug.file} has {text.count(bug.right)} places for it")
    file.write_text(text.replace(bug.right, bug.wrong), encoding="utf-8")
    return folder


def hunt(bug: Bug, seeds: int) -> tuple[int | None, float]:
    """The first seed that found it and after how many seconds; None when none did."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(planted(bug, Path(folder))), "PYTHONHASHSEED": "0"}
        started = time.perf_counter()
        ran = subprocess.run(
            [sys.executable, "-m", "hanse.runtime.simulation", "--seeds", str(seeds), "--stop-at", "1"],
            capture_output=True,
            text=True,
            env=environment,
            cwd=folder,
            check=False,
        )
        if not ran.stdout.strip():
            raise RuntimeError(f"{bug.name}: {ran.stderr[-2000:]}")
        figures = json.loads(ran.stdout.strip().splitlines()[-1])["simulation"]
        found = figures["failed"][0] if figures["failed"] else None
        return found, time.perf_counter() - started


def main() -> int:
    wanted = [bug for bug in BUGS if not sys.argv[1:] or bug.name in sys.argv[1:]]
    found = 0
    for bug in wanted:
        seed, seconds = hunt(bug, 2000)
        found += seed is not None
        print(
            f"{bug.name:40} {'seed ' + str(seed) if seed is not None else 'NOT FOUND':12} {seconds:6.1f} s", flush=True
        )
    print(json.dumps({"bugs": len(wanted), "found": found}))
    return 0 if found >= 0.9 * len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
