"""Shared memory: working, episodic and semantic records with provenance, the indexes that find them, and forgetting.

It knows records, vectors, filters and erasure, and nothing of agents, models or tasks; it meets them through the ports
in `contracts`. `service.MemoryService` is the whole of it, as a class that needs no Ray, and
`reader.MemoryReader` what may stand beside it to answer questions.
"""

__all__: list[str] = []
