"""Where a federation's stores are, when they are not in its data folder. Apart from the stores, so that whoever only
reads a configuration loads no database.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """Of the database that holds a federation's stores."""

    url: str
    """As libpq takes it. It may hold a password."""
    federation: str

    def __repr__(self) -> str:
        return f"Address(federation={self.federation!r})"
