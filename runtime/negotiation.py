"""Negotiation as pure functions: who may do a step, who gets it, and why.

The federation uses the contract net (Smith, "The Contract Net Protocol", IEEE Trans. Computers 1980). First come hard
conditions, which only filter; then a score, which only orders; so a cheap bid can never buy its way past a rule. The
award is deterministic: the same bids give the same winner and the same reason, today and in a replay.

Score of a bid, in cents: its price, plus its expected waiting time (latency times the queue before us and ourselves)
at the federation's price of waiting, all divided by its confidence. The lowest wins; ties go to the lower agent id.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from ..contracts import AgentId, Bid, JsonObject

MIN_CONFIDENCE = 0.01


@dataclass(frozen=True, slots=True)
class Weights:
    """What the federation holds dear."""

    cents_per_waiting_second: float = 10.0
    """Price of waiting, in cents per second. 0 looks at prices alone."""

    @staticmethod
    def unrecorded() -> "Weights":
        """Those of an award that does not say: what they were before they could be said. Never to be changed."""
        return Weights(10.0)

    def to_data(self) -> JsonObject | None:
        """As an award has them: null for those that need not be said."""
        return None if self == Weights.unrecorded() else asdict(self)


@dataclass(frozen=True, slots=True)
class Decision:
    """The winner with its reason, or nobody with the reasons of all."""

    winner: Bid | None
    reason: str


def score(bid: Bid, weights: Weights) -> float:
    """Cents that this bid would cost, waiting included. Lower is better."""
    waiting_seconds = bid.latency_ms * (bid.queue_depth + 1) / 1000
    return (bid.price_cents + waiting_seconds * weights.cents_per_waiting_second) / max(bid.confidence, MIN_CONFIDENCE)


def decide(bids: Sequence[Bid], weights: Weights, *, avoid: Iterable[AgentId] = ()) -> Decision:
    """The award. Agents to `avoid` (they failed at this step before) win only when there is nobody else."""
    if len(bids) == 1 and not bids[0].refusal:
        return Decision(bids[0], f"{bids[0].agent} is the only one who may")
    avoided = frozenset(avoid)
    willing = [bid for bid in bids if not bid.refusal]
    fresh = [bid for bid in willing if bid.agent not in avoided] or willing
    if not fresh:
        return Decision(None, _nobody(bids))
    ranking = sorted(fresh, key=lambda bid: (score(bid, weights), bid.agent))
    return Decision(ranking[0], _why(ranking, bids, avoided, weights))


def _nobody(bids: Sequence[Bid]) -> str:
    if not bids:
        return "nobody offers this"
    return "; ".join(f"{bid.agent} refuses: {bid.refusal}" for bid in bids)


def _why(ranking: Sequence[Bid], bids: Sequence[Bid], avoided: frozenset[AgentId], weights: Weights) -> str:
    winner = ranking[0]
    others = [f"{bid.agent} {score(bid, weights):.2f}" for bid in ranking[1:]]
    others += [f"{bid.agent} refuses: {bid.refusal}" for bid in bids if bid.refusal]
    others += [f"{bid.agent} failed before" for bid in bids if not bid.refusal and bid not in ranking]
    against = f" against {', '.join(others)}" if others else ""
    return (
        f"{winner.agent} scores {score(winner, weights):.2f} ({winner.price_cents:g} cents, "
        f"{winner.latency_ms:.1f} ms, {winner.queue_depth} before us){against}"
    )
