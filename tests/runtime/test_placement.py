"""Where agents live, and live again."""

from pathlib import Path

import pytest

from hanse.contracts import Corrupt, Unavailable
from hanse.runtime.placement import place

NODES = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
HERE = "10.0.0.1"


def test_new_hosts_are_spread_beginning_with_this_node(tmp_path: Path) -> None:
    placed = place(["a", "b", "c", "d"], NODES, HERE, (), tmp_path / "placement.json")
    assert list(placed.values()) == [*NODES, HERE]


def test_a_host_comes_back_to_the_node_it_was_on(tmp_path: Path) -> None:
    first = place(["a", "b"], NODES, HERE, (), tmp_path / "placement.json")
    again = place(["b", "a"], [*reversed(NODES)], "10.0.0.3", (), tmp_path / "placement.json")
    assert again == first


def test_a_host_whose_store_lies_here_stays_here(tmp_path: Path) -> None:
    placed = place(["a", "b", "c"], NODES, HERE, {"b", "c"}, tmp_path / "placement.json")
    assert placed == {"a": HERE, "b": HERE, "c": HERE}


def test_a_host_is_not_started_without_its_state_when_its_node_is_gone(tmp_path: Path) -> None:
    place(["a", "b"], NODES, HERE, (), tmp_path / "placement.json")
    with pytest.raises(Unavailable, match=r"b lives on node 10\.0\.0\.2, .* not in the cluster"):
        place(["a", "b"], ["10.0.0.1", "10.0.0.3"], HERE, (), tmp_path / "placement.json")


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "{"])
def test_a_spoiled_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "placement.json").write_text(text)
    with pytest.raises(Corrupt):
        place(["a"], NODES, HERE, (), tmp_path / "placement.json")
