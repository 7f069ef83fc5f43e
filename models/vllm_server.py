"""A tier as an application of `ray.serve.llm`: its `LLMConfig`, what `build_openai_app` makes of it, and its replica.

The application has two deployments: Ray's OpenAI ingress, and the server behind it. The ingress sleeps. It has no
route, so nobody can wake it, and no replica, so it costs no process: whoever asks a tier comes through Hanse's own
door, which knows tenants, budgets and limits, and asks the server by a handle.

Loads vLLM and torch: imported by replicas, and by the short-lived process that puts an application together.
"""

from collections.abc import AsyncIterator
from typing import Any

from pydantic import SkipValidation
from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.core.configs.openai_api_models import (
    ChatCompletionRequest,
    EmbeddingCompletionRequest,
    TokenizeChatRequest,
)
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.serve import Application
from ray.serve.llm import LLMConfig, build_openai_app
from ray.serve.llm.deployment import LLMServer

from .replica import Answers
from .source import Weights
from .stages import Stage, announce
from .tier import Tier
from .vllm_tier import ASLEEP, Prepare, arguments


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


class Config(LLMConfig):
    """Ray's, and what our replica needs beside it."""

    tier: SkipValidation[Tier]
    key: str
    """Under which a replica says how far it has come."""
    prepare: SkipValidation[Prepare | None] = None
    """Runs first in the replica."""


class Replica(Answers, LLMServer):
    """Ray's server for one model, with what our doors ask beside what Ray's ingress asks."""

    _default_engine_cls = Engine

    async def __init__(self, llm_config: Config) -> None:
        """Takes as long as the engine needs."""
        if llm_config.prepare is not None:
            llm_config.prepare()
        announce(llm_config.key, Stage.STARTING)
        await super().__init__(llm_config)
        self._answer_by(Asked(self.engine), llm_config.tier)
        announce(llm_config.key, Stage.READY)

    async def _start_engine(self) -> None:
        """Without the report of use that Ray sends when it has started."""
        await self.engine.start()  # type: ignore[union-attr]


class Asked:
    """Keeps `Model` over an engine."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def chat(self, body: bytes) -> AsyncIterator[Any]:
        return self._engine.chat(ChatCompletionRequest.model_validate_json(body))

    def embed(self, body: bytes) -> AsyncIterator[Any]:
        return self._engine.embeddings(EmbeddingCompletionRequest.model_validate_json(body))

    def tokens(self, body: bytes) -> AsyncIterator[Any]:
        return self._engine.tokenize(TokenizeChatRequest.model_validate_json(body))

    def unfinished(self) -> int:
        return self._engine.unfinished()

    async def check(self) -> None:
        await self._engine.check_health()


def application(tier: Tier, weights: Weights, key: str, prepare: Prepare | None = None) -> Application:
    """Raises InvalidConfiguration for an option that may not be set."""
    return build_openai_app(
        {"llm_configs": [config_of(tier, weights, key, prepare)], "ingress_deployment_config": ASLEEP}
    )


def config_of(tier: Tier, weights: Weights, key: str, prepare: Prepare | None = None) -> Config:
    """Raises InvalidConfiguration for an option that may not be set."""
    return Config(**arguments(tier, weights), server_cls=Replica, tier=tier, key=key, prepare=prepare)
