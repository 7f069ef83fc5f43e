"""The model pool: tiers from embedder to planner, routing between them, and the validators that check their answers.

It holds nothing yet: structured work needs no model, and goals in words come with the tiers. It will know prompts,
tokens and prices, and nothing of agents, memory or tasks; it meets them through the ports in `contracts`.
"""

__all__: list[str] = []
