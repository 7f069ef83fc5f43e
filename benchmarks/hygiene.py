"""A stream of which nine tenths are junk and echoes, through the real memory: what is kept out, and what is lost.

The good tenth is real text: turns of the memory scenarios of the Berkeley Function Calling Leaderboard, and facts about
customers and orders of the retail domain, many of which differ in a number, a name or a status alone. Between them come
messages that say nothing, copies of what is there, and echoes: an agent recalls something and remembers it again,
whole, in part, put together, retold in the third person, reordered, or in other words.

`--locomo FILE` adds the observations of two long conversations to the good (they may not ship), and `--embedder none`
does without vectors. Everything is drawn from `--seed`.
"""

import argparse
import asyncio
import gzip
import json
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from ..contracts import AgentId, Tenant
from ..contracts.caller import Caller
from ..contracts.memory import Draft, Layer, Query
from ..memory.service import MemoryService
from ..models.embedder import LocalEmbedder
from ..models.encoder import OnnxEncoder
from . import junk
from .machine import show
from .shard import shard

HERE = Path(__file__).parent
RETAIL = HERE.parent / "agents" / "retail" / "data" / "db.json.gz"
DESK = Caller(tenant=Tenant("bench"), by="desk", agent=AgentId("desk"))
"""Who writes what is good."""
SCRIBE = Caller(tenant=Tenant("bench"), by="scribe", agent=AgentId("scribe"))
"""Who recalls, and says it again."""

ECHOES = {
    "echo, word for word": lambda hits, chance: hits[0],
    "echo, framed": lambda hits, chance: junk.framed(hits[0], chance),
    "echo, in part": lambda hits, chance: junk.framed(junk.in_part(hits[0], chance), chance),
    "echo, reordered": lambda hits, chance: junk.reordered(hits[0], chance),
    "echo, retold": lambda hits, chance: junk.retold(hits[0], chance),
    "echo, two together": lambda hits, chance: junk.framed(" ".join(hits[:2]), chance),
    "echo, reworded": lambda hits, chance: junk.reworded(hits[0], chance),
}
COPIES = {"copy": lambda text, chance: text, "copy, respelled": junk.respelled}
WEIGHTS = {
    **dict.fromkeys(ECHOES, 7.0),
    "echo, reworded": 4.0,
    "copy": 8.0,
    "copy, respelled": 8.0,
    "small talk": 9.0,
    "talk about work": 8.0,
    "boilerplate": 7.0,
    "output of programs": 7.0,
    "noise": 6.0,
}
"""Shares of the junk, in percent or nearly so."""


class Item(NamedTuple):
    """One message of the stream. Junk that is made of what is there is made when its turn comes."""

    family: str
    text: str = ""
    good: bool = False
    episode: str | None = None


def turns() -> list[Item]:
    """What people said, in their words."""
    data = json.loads((HERE / "bfcl" / "turns.json").read_text())
    return [
        Item("good, turn of a talk", text, True, each["id"]) for each in data["conversations"] for text in each["turns"]
    ]


def facts(chance: Random, count: int) -> list[Item]:
    """Short facts that are much alike, and updates of some of them."""
    data = json.loads(gzip.decompress(RETAIL.read_bytes()))
    orders = chance.sample(sorted(data["orders"].values(), key=lambda each: each["order_id"]), count)
    made = dict.fromkeys(_fact(number, order, data) for number, order in enumerate(orders))  # once: a copy is junk
    updates = [
        Item("good, update", f"Order {order['order_id']} of {_name(data, order)} is {status} now.", True)
        for order in orders[: count // 5]
        for status in ("on hold", "on its way")
    ]
    return [Item("good, short fact", text, True) for text in made] + updates


def _fact(number: int, order: dict[str, Any], data: dict[str, Any]) -> str:
    name, user = _name(data, order), data["users"][order["user_id"]]
    address, item = user["address"], order["items"][0]
    options = ", ".join(f"{key} {value}" for key, value in item["options"].items())
    forms = (
        f"{name} lives at {address['address1']}, {address['city']}, {address['state']} {address['zip']}.",
        f"Order {order['order_id']} of {name} is {order['status']}.",
        f"{name} paid {order['payment_history'][0]['amount']} for order {order['order_id']}.",
        f"{name} bought the {item['name']} with {options} for {item['price']}.",
        f"{name} can be reached at {user['address']['zip']}, {user['address']['address2']}.",
    )
    return forms[number % len(forms)]


def _name(data: dict[str, Any], order: dict[str, Any]) -> str:
    return " ".join(data["users"][order["user_id"]]["name"].values())


def observations(file: Path) -> list[Item]:
    """What a model noted about the people of long conversations."""
    found: list[Item] = []
    for talk in json.loads(file.read_text()):
        for said in talk["observation"].values():
            found += [Item("good, observation", text, True) for about in said.values() for text, *_ in about]
    return found


def stream(good: Sequence[Item], chance: Random) -> list[Item]:
    """Nine times as much junk, mixed in; turns of a talk stay in their order."""
    families = chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=9 * len(good))
    mixed = [Item(family, junk.ALONE[family](chance) if family in junk.ALONE else "") for family in families]
    places = sorted(chance.sample(range(10 * len(good)), len(good)))
    for place, item in zip(places, good, strict=True):
        mixed.insert(place, item)
    return mixed


async def run(service: MemoryService, items: Sequence[Item], questions: Sequence[str], chance: Random) -> list[Any]:
    """The outcome of each item, with what was written."""
    kept, told = list[str](), list[Any]()
    for item in items:
        text = item.text or await _made(service, item.family, kept, questions, chance)
        if not text:
            continue
        talk = item.family == "good, turn of a talk"
        layer = Layer.EPISODIC if talk else Layer.SEMANTIC
        caller = DESK if item.good else SCRIBE
        [outcome] = await service.remember([Draft(text=text, layer=layer, episode=item.episode)], caller)
        told.append((item, text, outcome))
        kept += [text] if item.good else []
    return told


async def _made(
    service: MemoryService, family: str, kept: Sequence[str], questions: Sequence[str], chance: Random
) -> str:
    """Junk made of what is there; empty while nothing is."""
    if not kept:
        return ""
    if family in COPIES:
        return COPIES[family](chance.choice(kept), chance)
    about = chance.choice(questions) if chance.random() < 0.3 else " ".join(chance.choice(kept).split()[:12])
    found = await service.recall(Query(text=about, limit=3), SCRIBE)
    texts = [hit.record.text for hit in found.hits]
    return ECHOES[family](texts, chance) if texts else ""


@asynccontextmanager
async def memory(folder: Path, embedder: str) -> AsyncIterator[MemoryService]:
    if embedder == "none":
        async with shard(folder, None) as service:
            yield service
        return
    async with LocalEmbedder(OnnxEncoder(folder)) as encoder, shard(folder, encoder) as service:
        yield service


def rows(told: Sequence[Any]) -> list[dict[str, Any]]:
    """By family: how many came, what became of them, and the share that was treated as it should be."""
    families: dict[str, Counter[str]] = {}
    for item, _, outcome in told:
        families.setdefault(item.family, Counter())[outcome.outcome] += 1
    return [_row(family, families[family]) for family in sorted(families)]


def _row(family: str, counts: Counter[str]) -> dict[str, Any]:
    total = sum(counts.values())
    stored = counts["stored"]
    right = stored if family.startswith("good") else total - stored
    outcomes = {name: counts[name] for name in ("stored", "merged", "echo", "quarantined")}
    return {"family": family, "count": total, **outcomes, "right_percent": 100 * right / total}


def share(told: Sequence[Any], *, good: bool) -> float:
    """Percent that was treated as it should be."""
    outcomes = [outcome.outcome == "stored" for item, _, outcome in told if item.good is good]
    return 100 * sum(outcomes) / len(outcomes) if good else 100 - 100 * sum(outcomes) / len(outcomes)


async def measure(options: argparse.Namespace) -> tuple[list[Any], float]:
    chance = Random(options.seed)
    good = [*turns(), *facts(chance, options.facts)]
    good += observations(options.locomo) if options.locomo else []
    good = sorted(chance.sample(good, min(options.good, len(good))), key=good.index) if options.good else good
    talks, others = [each for each in good if each.episode], [each for each in good if not each.episode]
    chance.shuffle(others)
    items = stream(_interleaved(talks, others, chance), chance)
    questions = [each["question"] for each in json.loads((HERE / "bfcl" / "turns.json").read_text())["questions"]]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        async with memory(Path(folder), options.embedder) as service:
            started = time.process_time()
            told = await run(service, items, questions, chance)
            return told, time.process_time() - started


def _interleaved(talks: Sequence[Item], others: Sequence[Item], chance: Random) -> list[Item]:
    places = set(chance.sample(range(len(talks) + len(others)), len(talks)))
    first, second = iter(talks), iter(others)
    return [next(first) if place in places else next(second) for place in range(len(talks) + len(others))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=int, default=150, help="short facts, beside the turns")
    parser.add_argument("--good", type=int, default=0, help="so many good messages, drawn; 0 takes all")
    parser.add_argument("--locomo", type=Path, help="a file of LoCoMo conversations, whose observations count as good")
    parser.add_argument("--embedder", choices=["minilm", "none"], default="minilm")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", default=".", help="where the store lies")
    parser.add_argument("--wrong", type=int, default=0, help="print so many of those that were treated wrongly")
    options = parser.parse_args()
    told, seconds = asyncio.run(measure(options))
    for item, text, outcome in [each for each in told if _is_wrong(*each)][: options.wrong]:
        print(f"{item.family} -> {outcome.outcome} {outcome.reason[:90]}: {text[:300]!r}")
    figures = {"kept_out_percent": share(told, good=False), "good_kept_percent": share(told, good=True)}
    counts = {"messages": len(told), "good": sum(item.good for item, *_ in told), "cpu_ms": 1000 * seconds / len(told)}
    show("hygiene", rows(told), **{name: round(value, 2) for name, value in (figures | counts).items()})


def _is_wrong(item: Item, text: str, outcome: Any) -> bool:
    return (outcome.outcome == "stored") is not item.good


if __name__ == "__main__":
    main()
