"""The shell around the pure parts: journal, coordinator, execution, gateway, command line, cluster.

It imports every other folder, and no other folder imports it.
"""

__all__: list[str] = []
