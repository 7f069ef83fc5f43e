"""Shared memory: working, episodic and semantic records with provenance, and the indexes that find them again.

It holds nothing yet: an agent's own state lives with the agent, and what agents share comes later. It will know
records, vectors and forgetting, and nothing of agents, models or tasks; it meets them through the ports in `contracts`.
"""

__all__: list[str] = []
