"""The model pool: tiers from embedder to planner, routing between them, and the validators that check their answers.

It knows prompts, tokens and prices, and nothing of agents, memory or tasks; it meets them through the ports in
`contracts`. The door is `pool`; nothing is imported here, because a process that only reads the configuration must not
load it.
"""

__all__: list[str] = []
