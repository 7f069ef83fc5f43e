"""A token: a signed, attenuating permission for one step.

Construction: a chain of HMACs over caveats, as in Birgisson et al., "Macaroons" (NDSS 2014), section 3. The signature
of an empty token is HMAC(key, first block); each further block replaces the signature by HMAC(signature, block). So
whoever holds a token can narrow it, and nobody can widen it. HMAC is SHA-256 (RFC 2104).

The key of an agent is derived from the federation's root key and the agent's id, and an agent only holds its own:
it can check what was minted for it and cannot mint for another. Tests carry vectors.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, NewType, cast

from .errors import Corrupt, TokenInvalid
from .ids import AgentId
from .labels import ANY_BUT, NOT
from .plain import pack, unpack

Key = NewType("Key", bytes)

_MAX_BLOCKS = 16


def agent_key(root: bytes, agent: AgentId) -> Key:
    """The key that tokens for `agent` are minted and checked with. `root` is at least 32 random bytes."""
    return Key(hmac.digest(root, b"hanse agent key\x00" + agent.encode(), "sha256"))


@dataclass(frozen=True, slots=True)
class Demand:
    """What somebody wants to do, to be held against a token."""

    task: str
    step: str
    capability: str
    tenant: str
    input_digest: str
    now_ms: int
    """Unix milliseconds."""
    cost_cents: float = 0


class Allowance(NamedTuple):
    """What a token says of the data, beyond allowing the demand."""

    labels: tuple[str, ...] = ()
    cleared: tuple[str, ...] = ()
    """Those that may go outward in this step."""
    minded: frozenset[str] | None = None
    """Those that policy has a word about, where all others may go outward. None where every other may not."""


NO_LABELS = Allowance()


@dataclass(frozen=True, slots=True)
class Token:
    """Blocks of caveats, each a map, and the signature over all of them.

    A caveat is one of: `task`, `step`, `capability`, `tenant`, `input` (digest), which must be equal;
    `before` (unix milliseconds), which must lie ahead; `cents`, which must cover the cost; `labels`, which the data
    has, and `cleared`, those of them that may go outward, or, of data without a label, what its handler may take up
    and let out (`labels.ANY_BUT`). A caveat this version does not know refuses. All but `cents`,
    `labels` and `cleared` must be in the first block, the minted one: a token that was minted too wide by mistake
    allows nothing, instead of everything. A later block may add labels and take away what is cleared.
    """

    blocks: tuple[bytes, ...]
    signature: bytes

    def attenuated(self, caveats: Mapping[str, Any]) -> "Token":
        """A narrower token. Needs no key."""
        block = pack(dict(caveats))
        return Token((*self.blocks, block), hmac.digest(self.signature, block, "sha256"))

    def to_data(self) -> list[Any]:
        return [list(self.blocks), self.signature]

    @staticmethod
    def from_data(data: Any) -> "Token":
        """Raises TokenInvalid when this is no token."""
        try:
            blocks, signature = data
            if not all(isinstance(part, bytes) for part in (*blocks, signature)):
                raise TypeError("blocks and signature are bytes")
            return Token(tuple(blocks), signature)
        except (TypeError, ValueError) as error:
            raise TokenInvalid("this is not a token") from error


def mint(key: Key, caveats: Mapping[str, Any]) -> Token:
    """A token that allows what `caveats` say and nothing else."""
    block = pack(dict(caveats))
    return Token((block,), _signature(key, block))


def _signature(key: Key, block: bytes) -> bytes:
    """HMAC(key, block), in half the time of `hmac.digest` for the few keys that sign and check most tokens."""
    signed = _keyed(key).copy()
    signed.update(block)
    return signed.digest()


@lru_cache(maxsize=1024)
def _keyed(key: Key) -> hmac.HMAC:
    return hmac.new(key, digestmod="sha256")


def verify(token: Token, key: Key, demand: Demand) -> Allowance:
    """What the token says of the data. Raises TokenInvalid unless the signature is right and every caveat allows the
    demand.
    """
    if not 1 <= len(token.blocks) <= _MAX_BLOCKS:
        raise _refused(f"a token has between 1 and {_MAX_BLOCKS} blocks", demand)
    signature = _signature(key, token.blocks[0])
    for block in token.blocks[1:]:
        signature = hmac.digest(signature, block, "sha256")
    if not hmac.compare_digest(signature, token.signature):
        raise _refused("the signature does not fit this agent and these caveats", demand)
    blocks = [_check_block(block, demand) for block in token.blocks]
    if missing := sorted(_REQUIRED - blocks[0].keys()):
        raise _refused(f"the token was minted without the caveat {missing[0]!r}", demand)
    if len(blocks) == 1 and "labels" not in blocks[0]:
        return NO_LABELS
    return _allowance(blocks)


def _allowance(blocks: Sequence[Mapping[Any, Any]]) -> Allowance:
    """Labels of all blocks; cleared is what was minted so, and no later block has taken away."""
    labels, cleared = set[str](), set[str](blocks[0].get("cleared", ()))
    for each in blocks:
        labels.update(each.get("labels", ()))
        cleared &= set(each.get("cleared", cleared))
    return Allowance(tuple(sorted(labels)), tuple(sorted(cleared & labels)), _minded(*blocks))


def _minded(first: Mapping[Any, Any], *later: Mapping[Any, Any]) -> frozenset[str] | None:
    """What is cleared without a name is so as it was minted: whoever narrows it has to name what is left."""
    cleared: list[str] = first.get("cleared", [])
    if first.get("labels") or ANY_BUT not in cleared or any("cleared" in each for each in later):
        return None
    return frozenset(each.removeprefix(NOT) for each in cleared if each != ANY_BUT)


_EQUAL = {"task": "task", "step": "step", "capability": "capability", "tenant": "tenant", "input": "input_digest"}

_REQUIRED = frozenset({*_EQUAL, "before"})


def _check_block(block: bytes, demand: Demand) -> Mapping[Any, Any]:
    caveats = _caveats(block, demand)
    for name, allowed in caveats.items():
        if not _allows(name, allowed, demand):
            raise _refused(f"the token's caveat {name!r:.80} does not allow this", demand)
    return caveats


def _caveats(block: bytes, demand: Demand) -> dict[Any, Any]:
    """Whoever holds a token may add any bytes to it, so a block with a good signature need not be a map."""
    try:
        caveats = unpack(block)
    except Corrupt as error:
        raise _refused("a block of the token cannot be read", demand) from error
    if not isinstance(caveats, dict):
        raise _refused("a block of the token is not a map of caveats", demand)
    return cast("dict[Any, Any]", caveats)


def _allows(name: Any, allowed: Any, demand: Demand) -> bool:
    if name in _EQUAL:
        return bool(getattr(demand, _EQUAL[name]) == allowed)
    if name in ("labels", "cleared"):
        return isinstance(allowed, list) and all(isinstance(each, str) for each in cast("list[Any]", allowed))
    if name not in ("before", "cents") or isinstance(allowed, bool) or not isinstance(allowed, (int, float)):
        return False
    return demand.now_ms < allowed if name == "before" else demand.cost_cents <= allowed


def _refused(detail: str, demand: Demand) -> TokenInvalid:
    return TokenInvalid(detail, task=demand.task, step=demand.step)
