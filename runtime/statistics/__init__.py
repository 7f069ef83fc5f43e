"""Outcomes in figures: a DuckDB projection of the journals, read on from where it stands, and the questions put to it.

It knows events and SQL; who asks, and in which process, is the business of `statistics_part`.
"""

# From the journals
from .facts import Batch
from .keeper import Keeper

# To people
from .measures import BY, outcomes, totals

# Between them
from .projection import Projection
from .reading import Sources, read_on, readers

__all__ = [
    # From the journals
    "Batch",
    "Keeper",
    # To people
    "BY",
    "outcomes",
    "totals",
    # Between them
    "Projection",
    "Sources",
    "read_on",
    "readers",
]
