"""Hanse: agents that own their domains, say in contracts what they can do, and have work negotiated between them.

This is the public face, and everything a user's own agent or client needs is named here. It holds no code of its
own: a name is loaded from its room when it is first used, so `hanse.contracts` can be read without loading Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agents import Agent, Context
    from .contracts import HanseError, Plan, Refusal, capability
    from .runtime.federation import Federation

__all__ = [
    # Write an agent
    "Agent",
    "Context",
    "capability",
    "Refusal",
    # Give it work
    "Federation",
    "Plan",
    # When it goes wrong
    "HanseError",
]

_rooms = {
    "Agent": ".agents",
    "Context": ".agents",
    "capability": ".contracts",
    "Refusal": ".contracts",
    "Federation": ".runtime.federation",
    "Plan": ".contracts",
    "HanseError": ".contracts",
}


def __getattr__(name: str) -> Any:
    if name not in _rooms:
        raise AttributeError(f"module 'hanse' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_rooms[name], __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
