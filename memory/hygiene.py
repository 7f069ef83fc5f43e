"""Hygiene as verbs of the memory's service: `audit`, `access`, `erase`, `redact`, `consolidate`, `tidy`.

They read everything that a tenant has, so only people may ask for them, and what they tell is what that person may
read. What they decide is decided by the pure modules beside this one; here it is carried out.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy

from ..contracts import Clock, IdempotencyKey, InvalidInput, Tenant
from ..contracts.caller import Caller
from ..contracts.memory import MAX_ALIASES, Record, Scope
from ..contracts.pool import Models
from . import budgets, consolidation, erasure, facts
from .access import check_person, view_of
from .audit import STALE_DAYS, audit
from .books import is_summary, node_of
from .certificates import Claim
from .derivation import closure
from .gate import Gate
from .ports import Erasure, Graph
from .redaction import Masks, Pattern, Redactor, Values
from .verbs import Verb
from .writing import Derivations

if TYPE_CHECKING:
    from .service import MemoryService, Reading

NAME = "hygiene"
"""Who writes summaries."""


def parts(
    clock: Clock,
    *,
    models: Models | None = None,
    policy: consolidation.Policy | None = None,
    masks: Masks | None = None,
) -> dict[str, Any]:
    """What hygiene gives to the service, as keywords of `service.Parts`."""
    return {
        "gate": Gate(clock),
        "clean": masks or Masks(),
        "plan_erasure": erasure.plan,
        "key_of": facts.key,
        "verbs": verbs(models, policy or consolidation.Policy()),
    }


def verbs(models: Models | None, policy: consolidation.Policy) -> Mapping[str, Verb]:
    return {
        "audit": look_over,
        "access": tell_subject,
        "erase": erase_subject,
        "redact": redact,
        "tidy": tidy,
        "consolidate": partial(consolidate, models, policy),
    }


async def look_over(service: "Reading", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """Scores what the caller may read. `stale_days` is how old an unconfirmed fact may be."""
    stale_days = _number(parameters, "stale_days", STALE_DAYS)
    check_person(caller, "audit")
    async with service.shelves.use(caller.tenant) as shelf:
        await service.log.durable()
        view = view_of(caller, shelf.grants)
        everything = [record for page in _current(service, caller.tenant) for record in page]
        shown = [record for record in everything if view.shows(record)]
        hidden = {record.id for record in everything}
        return audit(shown, service.clock.now_ms(), stale_days=stale_days, elsewhere=hidden).model_dump(mode="json")


async def tell_subject(service: "Reading", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """All that is kept about a subject, also what is private to agents: the subject has a right to it."""
    subject = _text(parameters, "subject")
    check_person(caller, "access")
    async with service.shelves.use(caller.tenant) as shelf:
        await service.log.durable()
        own = service.log.about(caller.tenant, subject)
        derived = closure([*own, node_of(subject)], Derivations(shelf, service.log))
        versions = partial(service.log.versions, caller.tenant)
        return erasure.bundle(subject, own, derived, versions, service.clock.now_ms())


async def erase_subject(service: "MemoryService", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """Deletes all that is kept about a subject, and what was derived from it. Returns the certificate.

    `aliases` are names and addresses of the subject: where other records mention them, they are masked, and `masked` is
    the certificate of that. All is done by one commit, or nothing.
    """
    subject, aliases = _text(parameters, "subject"), _aliases(parameters)
    check_person(caller, "erase")

    def plan(graph: Graph) -> list[Claim]:
        ids = service.log.about(caller.tenant, subject)
        own = service.parts.plan_erasure([*ids, node_of(subject)], graph)
        if not aliases:
            return [Claim(own, subject)]
        masked = _redactions(service, caller.tenant, Values(aliases), erasure.After(graph, own))
        return [Claim(own, subject), Claim(masked, masked=True)]

    own, *masked = (each.model_dump(mode="json") for each in await service.erase(plan, caller))
    return own | ({"masked": masked[0]} if masked else {})


async def redact(service: "MemoryService", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """Masks something wherever it stands, in every version, and in what was derived from it. Returns the certificate.

    Give `pattern` (a regular expression of RE2), or `kinds` out of secret, card, e-mail and phone, the last with a
    `region` such as DE. Whole records are forgotten and subjects are erased instead.
    """
    check_person(caller, "redact")
    mask = _mask(parameters)

    def plan(graph: Graph) -> list[Claim]:
        return [Claim(_redactions(service, caller.tenant, mask, graph), masked=True)]

    [made] = await service.erase(plan, caller)
    return made.model_dump(mode="json")


async def tidy(service: "MemoryService", parameters: Mapping[str, Any], caller: Caller) -> Any:
    """Makes room: evicts what is over `records` or `bytes`, the tenant's budget when left out, least valuable first."""
    check_person(caller, "tidy")
    limits = service.settings.budget_of(caller.tenant)
    wanted = budgets.Budget(
        records=int(_number(parameters, "records", limits.records)),
        bytes=int(_number(parameters, "bytes", limits.text_bytes)),
    )
    async with service.shelves.use(caller.tenant) as shelf:
        await service.log.durable()
        everything = [record for page in _current(service, caller.tenant) for record in page]
        told = {id for each in everything if is_summary(each) for id in each.provenance.derived_from}
        found = budgets.overflow(everything, wanted, service.clock.now_ms(), summarised=told)
        with service.works.begun(caller.tenant, "tidy") as progress:
            progress.begin(len(found.evictions))
            await service.writing.evict(shelf, [each.id for each in found.evictions], caller)
    if found.evictions:
        await service.upkeep.cleaned_by_and_by(caller.tenant)
    evicted = [each._asdict() for each in found.evictions]
    return {"evicted": evicted, "records": found.records, "bytes": found.bytes, "fits": found.fits}


async def consolidate(
    models: Models | None,
    policy: consolidation.Policy,
    service: "MemoryService",
    parameters: Mapping[str, Any],
    caller: Caller,
) -> Any:
    """Makes summaries of old episodes, level upon level. Doing it again makes nothing twice."""
    check_person(caller, "consolidate")
    made = list[Record]()
    with service.works.begun(caller.tenant, "consolidate") as progress:
        for _ in range(1 + _LEVELS):
            groups = await _due(service, policy, caller.tenant)
            progress.begin(len(groups))
            for group in groups:
                made += await _summarised(service, group, policy, models, caller.tenant)
                progress.advance(1)
            if not groups:
                break
    return {"summaries": [{"id": each.id, "of": len(each.provenance.derived_from)} for each in made]}


_LEVELS = 8
"""Of summaries upon summaries, in one request: eight of them hold more episodes than anybody has."""


async def _due(service: "MemoryService", policy: consolidation.Policy, tenant: Tenant) -> list[consolidation.Group]:
    async with service.shelves.use(tenant):
        await service.log.durable()
        everything = (record for page in _current(service, tenant) for record in page)
        return consolidation.due(everything, policy, service.clock.now_ms())


async def _summarised(
    service: "MemoryService",
    group: consolidation.Group,
    policy: consolidation.Policy,
    models: Models | None,
    tenant: Tenant,
) -> list[Record]:
    caller = _owner(tenant, group.records[0])
    embed = service.embedding.of if service.embedding.model else None
    asking = caller.model_copy(update={"labels": group.records[0].labels})
    draft = await consolidation.summarise(group, policy, embed=_vectors(embed), models=models, caller=asking)
    [told] = await service.remember([draft], caller, key=IdempotencyKey(f"consolidate/{group.key}"))
    return [told.record] if told.outcome in ("stored", "quarantined") else []


def _vectors(embed: Any) -> consolidation.Embed | None:
    """The rows alone. While the embedder is away there are none, and words have to do."""
    if embed is None:
        return None

    async def rows(texts: Sequence[str]) -> Any:
        found = (await embed(list(texts))).rows
        return None if any(row is None for row in found) else numpy.stack(found)

    return rows


def _owner(tenant: Tenant, record: Record) -> Caller:
    """Hygiene on behalf of whoever the records belong to: nobody else may write there."""
    agent = record.owner if record.scope is Scope.AGENT else None
    task = record.owner if record.scope is Scope.TASK else None
    return Caller.model_validate({"tenant": tenant, "by": NAME, "agent": agent, "task": task})


def _redactions(service: "MemoryService", tenant: Tenant, mask: erasure.Mask, graph: Graph) -> Erasure:
    versions = (each.record for page in service.log.all_versions(tenant) for each in page)
    return erasure.redactions((each for each in versions if graph.record(each.id) is not None), mask, graph)


def _mask(parameters: Mapping[str, Any]) -> erasure.Mask:
    """Raises InvalidInput."""
    pattern, kinds = parameters.get("pattern"), parameters.get("kinds")
    if isinstance(pattern, str) and kinds is None:
        return Pattern(pattern)
    if isinstance(kinds, list) and kinds and pattern is None:
        region = parameters.get("region")
        return Redactor([str(kind) for kind in kinds], region=region if isinstance(region, str) else None)
    raise InvalidInput("say what to mask: a pattern, or kinds such as e-mail and phone", pointer="/pattern")


def _current(service: "Reading", tenant: Tenant) -> Iterator[list[Record]]:
    for page in service.log.live(tenant):
        yield [each.record for each in page]


def _text(parameters: Mapping[str, Any], name: str) -> str:
    value = parameters.get(name)
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"say which {name}", pointer=f"/{name}")
    return value


def _number(parameters: Mapping[str, Any], name: str, default: float) -> float:
    value = parameters.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        raise InvalidInput(f"{name} is a number from 0", pointer=f"/{name}")
    return value


def _aliases(parameters: Mapping[str, Any]) -> list[str]:
    """At least three characters each: two letters are in every other word."""
    given = parameters.get("aliases") or []
    if not isinstance(given, list) or len(given) > MAX_ALIASES:
        raise InvalidInput(f"aliases are a list of at most {MAX_ALIASES}", pointer="/aliases")
    if short := [each for each in given if not isinstance(each, str) or len(each.strip()) < 3]:
        raise InvalidInput(f"an alias has at least three characters, not {short[0]!r:.50}", pointer="/aliases")
    return given
