"""Numbers that anyone can repeat: `python -m hanse.benchmarks.NAME` prints a table and, last, one JSON line.

They measure the product as it is used. Nothing of Hanse imports them.
"""

__all__: list[str] = []
