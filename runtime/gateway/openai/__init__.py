"""The model pool for clients that speak OpenAI's HTTP: models, chat completions, embeddings, and vLLM's scores.

It turns their bodies into what the pool is asked and the pool's answers and errors into theirs. It knows no tier, no
price and no policy.
"""

__all__: list[str] = []
