"""Who lives in the simulation: four kinds of agents, and an outside world that hears what is cried and is not always
well.
"""

import asyncio
import contextvars
from collections import Counter
from enum import StrEnum
from random import Random
from typing import Any

from pydantic import BaseModel

from ...agents import Agent, Context
from ...agents.connector import Absent, Answer, Connector, ConnectorOptions, Done, operation
from ...contracts import JsonObject, OutcomeUnknown, Refusal, RetryPolicy, Unavailable, capability
from ..audit.head import SignedHead

FEW_RETRIES = RetryPolicy(max_attempts=2, initial_interval=0.2, backoff_factor=2, max_interval=1)
FAST_RETRIES = RetryPolicy(max_attempts=6, initial_interval=0.2, backoff_factor=2, max_interval=5)


class Put(BaseModel):
    name: str
    number: int


class Total(BaseModel):
    name: str
    number: int
    total: int


class Cry(BaseModel):
    words: str


class Grind(BaseModel):
    number: int
    fails: int = 0
    """So many attempts fail first."""


class Flour(BaseModel):
    number: int


class Full(Refusal):
    code = "simulation.full"


class Vault(Agent):
    """Keeps numbers under names."""

    domain = "vault"

    @capability(version="1.0", effect="reversible", compensation="take_back", price_cents=1, retry=FAST_RETRIES)
    async def put(self, request: Put, context: Context) -> Total:
        """Add a number to what is kept under a name."""
        total = await context.state.get("total", request.name, default=0)
        await asyncio.sleep(0.001 * (request.number % 5))
        await context.state.put("total", request.name, total + request.number)
        return Total(name=request.name, number=request.number, total=total + request.number)

    @capability(version="1.0", effect="reversible", compensation="put", retry=FAST_RETRIES)
    async def take_back(self, request: Put, context: Context) -> Total:
        """Take a number away from what is kept under a name."""
        total = await context.state.get("total", request.name, default=0) - request.number
        await context.state.put("total", request.name, total)
        return Total(name=request.name, number=request.number, total=total)

    @capability(version="1.0", effect="reversible", compensation="forgive", confirmation="redeem", retry=FAST_RETRIES)
    async def pledge(self, request: Put, context: Context) -> Total:
        """Promise a number to what is kept under a name."""
        return await self._pledged(context, request, request.number)

    @capability(version="1.0", effect="irreversible", retry=FAST_RETRIES)
    async def redeem(self, request: Put, context: Context) -> Total:
        """Keep what was promised."""
        await self._pledged(context, request, -request.number)
        return await self.put(request, context)

    @capability(version="1.0", effect="irreversible", retry=FAST_RETRIES)
    async def forgive(self, request: Put, context: Context) -> Total:
        """Forget what was promised."""
        return await self._pledged(context, request, -request.number)

    async def _pledged(self, context: Context, request: Put, number: int) -> Total:
        total = await context.state.get("pledged", request.name, default=0) + number
        await context.state.put("pledged", request.name, total)
        return Total(name=request.name, number=request.number, total=total)

    @capability(version="1.0", effect="read")
    async def total(self, request: Put, context: Context) -> Total:
        """Say what is kept under a name."""
        return Total(name=request.name, number=0, total=await context.state.get("total", request.name, default=0))

    @capability(version="1.0", effect="read")
    async def refuse(self, request: Put, context: Context) -> Total:
        """Always refuse."""
        raise Full("the vault is full", name=request.name)


class Crier(Agent):
    """Says things that the outside hears."""

    domain = "crier"

    @capability(version="1.0", effect="irreversible", price_cents=2, timeout_seconds=60, retry=FEW_RETRIES)
    async def cry(self, request: Cry, context: Context) -> Cry:
        """Cry words out, once."""
        await context.connectors.square.cry(words=request.words)
        return request


class Envoy(Agent):
    """Has others do what it is asked for: everything it does is a child task."""

    domain = "envoy"

    @capability(version="1.0", effect="reversible", compensation="call_back", price_cents=3, retry=FAST_RETRIES)
    async def carry(self, request: Put, context: Context) -> Total:
        """Have a number put into the vault."""
        return Total(**await context.tasks.call("vault.put", request))

    @capability(version="1.0", effect="reversible", compensation="carry", retry=FAST_RETRIES)
    async def call_back(self, request: Put, context: Context) -> Total:
        """Have it taken back."""
        return Total(**await context.tasks.call("vault.take_back", request))

    @capability(version="1.0", effect="irreversible", price_cents=5, timeout_seconds=60, retry=FEW_RETRIES)
    async def announce(self, request: Cry, context: Context) -> Cry:
        """Have it cried out."""
        return Cry(**await context.tasks.call("crier.cry", request))


class _Mill(Agent):
    """Grinds. There are two mills, so that there is something to negotiate."""

    @capability(version="1.0", effect="read", price_cents=0.5, retry=FAST_RETRIES)
    async def grind(self, request: Grind, context: Context) -> Flour:
        """Grind a number, if not at the first attempt, then at a later one."""
        tries = _tries[context.idempotency_key]
        _tries[context.idempotency_key] += 1
        await asyncio.sleep(0.01)
        if tries < request.fails:
            raise Unavailable("the wind is down")
        return Flour(number=request.number * 2)


class WindMill(_Mill):
    """Grinds when there is wind."""

    domain = "mill"
    name = "windmill"


class WaterMill(_Mill):
    """Grinds when there is water."""

    domain = "mill"
    name = "watermill"


_tries: Counter[str] = Counter()
"""What the weather has done. It is outside of every process, and not to be relied on."""


class Notebook:
    """Keeps the heads of the journal where no disk of the town can lose them: an anchor (I7)."""

    name = "notebook"

    def __init__(self) -> None:
        self.heads: list[SignedHead] = []

    async def keep(self, head: SignedHead) -> None:
        """It is written down also when whoever said it does not live to hear so."""
        self.heads.append(head)
        await asyncio.sleep(0.02)

    async def last(self, journal: str) -> SignedHead | None:
        return self.heads[-1] if self.heads else None

    async def close(self) -> None:
        """Nothing to put away."""


class Mood(StrEnum):
    """How the outside is."""

    WELL = "well"
    AWAY = "away"
    """refuses before anything happens"""
    SILENT_AFTER = "silent_after"
    """does it, and the answer is lost"""
    SILENT_BEFORE = "silent_before"
    """the request is lost on its way"""
    LATE = "late"
    """does it after the caller has given up"""
    DEAF = "deaf"
    """cannot be asked what it has heard"""
    VEILED = "veiled"
    """does it, the answer is lost, and it cannot be asked"""
    LOST = "lost"
    """the request is lost, and it cannot be asked"""


class Outside:
    """The world beyond. It keeps what it has heard, with the key of each cry."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.mood = Mood.WELL
        self.heard: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        """How often somebody met with each mood."""

    async def hear(self, key: str) -> None:
        self.met[self.mood] += 1
        await asyncio.sleep(self.random.uniform(0.001, 0.02))
        match self.mood:
            case Mood.AWAY:
                raise Unavailable("the square is closed")
            case Mood.SILENT_BEFORE:
                await asyncio.sleep(60)
            case Mood.LOST:
                raise OutcomeUnknown("it was sent, and lost")
            case Mood.SILENT_AFTER | Mood.VEILED:
                self.heard[key] += 1
                raise OutcomeUnknown("the answer was lost")
            case Mood.LATE:
                nobody = contextvars.Context()  # it arrives also when the sender is dead by then
                asyncio.get_running_loop().call_later(_LATE_SECONDS, self._hear_late, key, context=nobody)
                await asyncio.sleep(60)
            case _:
                self.heard[key] += 1

    def knows(self, key: str) -> bool:
        """Raises OutcomeUnknown when it cannot be asked."""
        if self.mood in (Mood.DEAF, Mood.AWAY, Mood.VEILED, Mood.LOST):
            self.met[self.mood] += 1
            raise OutcomeUnknown("the square does not answer")
        return self.heard[key] > 0

    def _hear_late(self, key: str) -> None:
        self.heard[key] += 1


_TIMEOUT_SECONDS, _SETTLE_SECONDS, _LATE_SECONDS = 1.0, 2.0, 1.5
"""What was sent arrives within the time that the connector is told to allow for."""


class Square(Connector):
    """The way to the outside. It does not recognise keys by itself, and it can be asked."""

    def __init__(self, outside: Outside) -> None:
        super().__init__(timeout_seconds=_TIMEOUT_SECONDS, settle_seconds=_SETTLE_SECONDS)
        self._outside = outside

    Options = ConnectorOptions

    @property
    def askable(self) -> bool:
        return True

    @operation(effect="irreversible")
    async def cry(self, key: str, *, words: str) -> dict[str, Any]:
        """Is heard by everybody."""
        await self._outside.hear(key)
        return {"words": words}

    async def reconcile(self, operation: str, key: str, request: JsonObject) -> Answer:
        await asyncio.sleep(0.005)
        return Done({"words": request["words"]}) if self._outside.knows(key) else Absent()


AGENTS: tuple[type[Agent], ...] = (Vault, Crier, WindMill, WaterMill, Envoy)


def fresh_weather() -> None:
    """Forgets what earlier seeds have done to the mills."""
    _tries.clear()


def random_plan(random: Random) -> JsonObject:
    """A plan of up to eight steps: chains, branches, fans, conditions, refusals."""
    steps: list[JsonObject] = []
    for number in range(random.randint(1, 8)):
        steps.append(_step(random, f"s{number}", [step["id"] for step in steps]))
    return {"steps": steps, "output": {"$from": f"{random.choice(steps)['id']}"}}


def _step(random: Random, id: str, before: list[str]) -> JsonObject:
    step: JsonObject = {"id": id} | _call(random)
    if before and random.random() < 0.7:
        step["after"] = random.sample(before, random.randint(1, min(2, len(before))))
    if before and random.random() < 0.15:
        step["when"] = {"$ok": random.choice(before)}
    return step


def _call(random: Random) -> JsonObject:
    kinds = {"put": 14, "pledge": 4, "fan": 4, "cry": 12, "grind": 6, "refuse": 1, "optional": 2}
    kinds |= {"carry": 2, "announce": 1}
    kind = random.choices([*kinds], [*kinds.values()])[0]
    name, number = random.choice("abc"), random.randint(1, 9)
    match kind:
        case "fan":
            items = [random.randint(1, 9) for _ in range(random.randint(0, 4))]
            return {"call": "vault.put", "for_each": items, "input": {"name": name, "number": {"$from": "item"}}}
        case "pledge":
            return {"call": "vault.pledge", "input": {"name": name, "number": number}}
        case "cry":
            return {"call": "crier.cry", "input": {"words": f"hear {number}"}}
        case "announce":
            return {"call": "envoy.announce", "input": {"words": f"hear {number}"}}
        case "carry":
            return {"call": "envoy.carry", "input": {"name": name, "number": number}}
        case "grind":
            return {"call": "mill.grind", "input": {"number": number, "fails": random.choice([0, 0, 1, 2, 9])}}
        case "refuse":
            return {"call": "vault.refuse", "input": {"name": name, "number": number}}
        case "optional":
            return {"call": "vault.refuse", "input": {"name": name, "number": number}, "optional": True}
        case _:
            return {"call": "vault.put", "input": {"name": name, "number": number}}
