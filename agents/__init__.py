"""Agents keep local state and offer capabilities: the base class, what a handler gets, and how a step happens once.

This folder knows contracts and ports; it knows neither Ray nor the runtime, nor who calls. Connectors are in
`agents.connectors`, the agents that ship with Hanse in folders of their own.
"""

from .agent import Agent
from .connector import Absent, Connector, ConnectorOptions, Done, operation
from .context import Context
from .engine import Engine
from .faults import POINTS
from .ledger import Entry, Ledger, Status
from .state import State

__all__ = [
    # Write an agent
    "Agent",
    "Context",
    "State",
    # Write a connector
    "Absent",
    "Connector",
    "ConnectorOptions",
    "Done",
    "operation",
    # Run an agent
    "Engine",
    "Entry",
    "Ledger",
    "Status",
    # Crash it
    "POINTS",
]
