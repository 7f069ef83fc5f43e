"""vLLM in a replica's process, through Ray's `LLMServer`. Loads vLLM and torch: imported by replicas alone."""

from typing import Any

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.serve.llm import LLMConfig
from ray.serve.llm.deployment import LLMServer


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
        """Ray 2.60 looks for the tokenizer's service under a name that vLLM 0.32 has changed."""
        await super().start()
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


async def started(config: LLMConfig) -> Server:
    """A server whose engine runs. Takes as long as the engine needs."""
    server: Any = Server.sync_init(config, engine_cls=Engine)
    await server.start()
    return server
