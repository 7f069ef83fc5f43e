"""The points of an agent's work at which a test may kill its process.

Between two neighbours lies one promise: what was durable before, what is durable after. The tests kill a real process
at each and look from outside whether the promise held.

`POINTS` are those that every step with an outside effect comes by. An agent that comes back passes the others.
"""

from typing import Final

CALL_RECEIVED: Final = "agent.call_received"
"""A call is here; nothing has been looked at."""
BEFORE_HANDLER: Final = "agent.before_handler"
"""Token, receipt and input are checked; the handler has not begun."""
BEFORE_COMMIT: Final = "agent.before_commit"
"""The handler has returned; its writes and the receipt are in memory only."""
AFTER_COMMIT: Final = "agent.after_commit"
"""Writes and receipt are on disk; nobody has been told."""

BEFORE_CLAIM: Final = "effect.before_claim"
"""The handler wants an outside effect; nothing says so yet."""
AFTER_CLAIM: Final = "effect.after_claim"
"""The claim is on disk; nothing has been done."""
AFTER_DO: Final = "effect.after_do"
"""The outside world has changed; the ledger only knows the claim."""
AFTER_EFFECT_COMMIT: Final = "effect.after_commit"
"""The result is in the ledger; the handler has not seen it."""

STARTING: Final = "agent.starting"
"""`on_start` has run; what it wrote is in memory only."""
RECONCILING: Final = "effect.reconciling"
"""The outside has said what became of an effect in doubt; the ledger only knows the claim."""
RECONCILED: Final = "effect.reconciled"
"""What became of it is in the ledger; its step knows nothing yet."""

POINTS: Final = (
    CALL_RECEIVED,
    BEFORE_HANDLER,
    BEFORE_COMMIT,
    AFTER_COMMIT,
    BEFORE_CLAIM,
    AFTER_CLAIM,
    AFTER_DO,
    AFTER_EFFECT_COMMIT,
)
RECOVERY_POINTS: Final = (STARTING, RECONCILING, RECONCILED)
