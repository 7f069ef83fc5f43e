"""A bundle with child tasks: each is proved by itself, and is what its parent's journal says of it."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from hanse.contracts import TaskId
from hanse.runtime.audit.reasons import check

from ..test_children import HAT, town
from .test_evidence import bundle_of, resigned, signer_of


@pytest.fixture
async def sold(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder, and two tasks in it: one that had one child, and one that had two, and no money for a third."""
    async with town(data=tmp_path / "var") as here:
        tasks = {call: (await here.ask(f"shop.{call}", HAT)).id for call in ("sell", "sell_three")}
    return tmp_path / "var", tasks


@pytest.mark.parametrize(("call", "children"), [("sell", 1), ("sell_three", 2)])
def test_it_tells_of_every_child_what_it_tells_of_a_task(sold: Any, call: str, children: int):
    data, tasks = sold
    bundle = bundle_of(data, tasks[call])
    found = check(bundle, signer_of(data).public)
    assert found.problems == []
    assert len(bundle["children"]) == children
    for child in bundle["children"]:
        (asked,) = [line for line in found.lines if f"asked for the child task {child['task']}" in line]
        assert asked.endswith("till.take")
        begun = found.lines.index(f"  {check(child, signer_of(data).public).lines[0]}")
        assert any("  receipt at till" in line for line in found.lines[begun:])
    assert sum("child task" in line and "completed" in line for line in found.lines) == children


def _leave_out(bundle: dict[str, Any], other: dict[str, Any]) -> None:
    bundle["children"].pop()


def _say_nothing_of_it(bundle: dict[str, Any], other: dict[str, Any]) -> None:
    bundle["children"][0] = other["children"][0]


def _change_one(bundle: dict[str, Any], other: dict[str, Any]) -> None:
    bundle["children"][0]["receipts"][0]["output"] = "sha256:0"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_leave_out, "is neither in the bundle nor said to be missing"),
        (_say_nothing_of_it, "is no child task of"),
        (_change_one, "the signature of the bundle is not that of what it holds"),
    ],
)
def test_what_whoever_signs_leaves_out_or_puts_in_is_found(sold: Any, change: Callable[..., None], said: str):
    data, tasks = sold
    one, three = bundle_of(data, tasks["sell"]), bundle_of(data, tasks["sell_three"])
    forged = deepcopy(one)
    change(forged, three)
    found = check(resigned(forged, signer_of(data)), signer_of(data).public)
    assert any(said in problem for problem in found.problems), found.problems


def test_a_child_by_another_hand_is_found(sold: Any):
    data, tasks = sold
    other = type(signer_of(data))("local", bytes(32))
    forged = bundle_of(data, tasks["sell"])
    forged["children"][0] = resigned(forged["children"][0], other)
    found = check(resigned(forged, signer_of(data)), signer_of(data).public)
    assert any("is signed by" in problem for problem in found.problems)


def test_what_cannot_be_had_is_named(sold: Any, monkeypatch: pytest.MonkeyPatch):
    from hanse.contracts import NotFound
    from hanse.runtime.audit import bundle as module

    data, tasks = sold
    made, parent = module._bundle, tasks["sell"]

    def only_the_parent(place: Any, stores: Any, task: TaskId, notary: Any) -> Any:
        if task != parent:
            raise NotFound("it was compacted")
        return made(place, stores, task, notary)

    monkeypatch.setattr(module, "_bundle", only_the_parent)
    found = check(bundle_of(data, parent), signer_of(data).public)
    assert found.problems == []
    assert [line for line in found.lines if line.startswith("not in this bundle: child task")]
