"""Placement: on which node each host of agents lives, and lives again after any restart.

An agent's state is a file on the disk of its node. Started elsewhere it would find nothing and begin anew, which is the
worst way to lose state: silently. So a host is given a node once, that is written down beside the journal, and Ray may
start it only there. A host whose agents ask for `resources` is placed by those, and it is for whoever wrote them to
name a resource that one node has.
"""

import json
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from ..contracts import Corrupt, Unavailable
from .files import write_whole


def place(hosts: Iterable[str], nodes: Sequence[str], here: str, at_home: Container[str], file: Path) -> dict[str, str]:
    """The node address of each host: as it was; or this node, where a store of one `at_home` lies; or the emptiest one.

    What is decided is on disk when this returns. Raises Unavailable when the node of a host is not in the cluster, and
    Corrupt when `file` is not what was written.
    """
    placed = _read(file)
    for host in hosts:
        if host not in placed:
            taken = list(placed.values())
            free = min(nodes, key=lambda node: (taken.count(node), node != here, node))
            placed[host] = here if host in at_home else free
        if placed[host] not in nodes:
            raise Unavailable(
                f"{host} lives on node {placed[host]}, where its state is, and that node is not in the cluster. Bring "
                f"the node back; or, if the state was moved, say where to in {file.name}",
                host=host,
            )
    write_whole(file, json.dumps(placed, indent=2, sort_keys=True).encode(), 0o644)
    return placed


def _read(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Corrupt(f"{file.name} does not say where agents live: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(node, str) for node in found.values()):
        raise Corrupt(f"{file.name} does not say where agents live")
    return found
