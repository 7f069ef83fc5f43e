"""`python -m hanse.runtime.cli` is `hanse`."""

from .app import main

main()
