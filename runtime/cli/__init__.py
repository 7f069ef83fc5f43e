"""The command line: `hanse`, a module for each noun. It knows the `Client` protocol and how to show what comes back.

What a command does to a federation, the client does; what is drawn is drawn by the pure functions of `view` and
`board`. README.md beside this file lists every command and every exit code.
"""

from .app import main

__all__ = ["main"]
