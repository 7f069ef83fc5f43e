"""The transactional truth behind one port: SQLite here, one file per writer, statements as text in `.sql` files.

It knows rows and commits; what the rows mean is the business of the journal and of the agents' engine.
"""

# Adapters
from .sqlite import SqliteStore

# Statements
from .statements import Statements, load_statements

__all__ = [
    # Adapters
    "SqliteStore",
    # Statements
    "Statements",
    "load_statements",
]
