"""vLLM in a replica's process, through Ray's `LLMServer`. Loads vLLM and torch: imported by replicas alone."""

from collections.abc import AsyncIterator
from typing import Any

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.core.configs.openai_api_models import (
    ChatCompletionRequest,
    EmbeddingCompletionRequest,
    TokenizeChatRequest,
)
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.serve.llm import LLMConfig
from ray.serve.llm.deployment import LLMServer

from .source import Weights
from .tier import Tier
from .vllm_tier import arguments


class NothingToFetch(CallbackBase):
    """The weights are on this disk already, so no process has to be started to look for them."""

    async def on_before_node_init(self) -> None:
        self.ctx.run_init_node = False


class Engine(VLLMEngine):
    """vLLM as Ray starts it, but in one process instead of two where there is one processor rank.

    vLLM takes two because it cannot set OpenMP's environment for a process that runs already. Ours has that environment
    from its start (`environment_of`), and a token then costs no hop between processes.
    """

    async def start(self) -> None:
        """Ray 2.60 looks for the tokenizer's service under a name that vLLM 0.32 has changed. And vLLM looks into the
        environment some twenty times for each request, if it is not told that nothing will change there.
        """
        from vllm.envs import enable_envs_cache

        await super().start()
        enable_envs_cache()
        self._oai_serving_tokenization = self._oai_serving_tokenization or getattr(
            self._app_state, "serving_tokenization", None
        )

    def _start_async_llm_engine(self, vllm_engine_args: Any, vllm_engine_config: Any, placement_group: Any) -> Any:
        parallel = vllm_engine_config.parallel_config
        if vllm_engine_config.device_config.device_type == "cpu" and parallel.world_size == 1:
            parallel.distributed_executor_backend = "uni"
        return super()._start_async_llm_engine(vllm_engine_args, vllm_engine_config, placement_group)

    def unfinished(self) -> int:
        """Requests in the engine."""
        return self._engine_client.get_num_unfinished_requests()  # type: ignore[attr-defined]


class Server(LLMServer):
    """Ray's server for one model, without the report of use that it sends when it has started."""

    async def _start_engine(self) -> None:
        await self.engine.start()  # type: ignore[union-attr]


class Model:
    """A running engine, asked in JSON."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def chat(self, body: bytes) -> AsyncIterator[Any]:
        """Raises pydantic's ValidationError for a body that is no request, as the others do."""
        return self._server.engine.chat(ChatCompletionRequest.model_validate_json(body))

    def embed(self, body: bytes) -> AsyncIterator[Any]:
        return self._server.engine.embeddings(EmbeddingCompletionRequest.model_validate_json(body))

    def tokens(self, body: bytes) -> AsyncIterator[Any]:
        return self._server.engine.tokenize(TokenizeChatRequest.model_validate_json(body))

    def unfinished(self) -> int:
        return self._server.engine.unfinished()

    async def check(self) -> None:
        """Raises what is wrong with the engine."""
        await self._server.check_health()


async def started(tier: Tier, weights: Weights) -> Model:
    """Takes as long as the engine needs."""
    server: Any = Server.sync_init(llm_config(tier, weights), engine_cls=Engine)
    await server.start()
    return Model(server)


def llm_config(tier: Tier, weights: Weights) -> LLMConfig:
    """Raises InvalidConfiguration for an option that may not be set."""
    return LLMConfig(**arguments(tier, weights))
