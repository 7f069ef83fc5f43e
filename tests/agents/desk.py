"""What a coordinator does, as far as one agent notices: calls with keys and tokens."""

import itertools
from typing import Any

from hanse.agents import Agent, Engine
from hanse.contracts import AgentId, HanseError, digest
from hanse.contracts.messages import Call, Result
from hanse.contracts.token import agent_key, mint
from hanse.runtime.world import SystemClock, SystemEntropy

ROOT_KEY = b"the root key of a test, 32 bytes"
_tasks = itertools.count(1)


class TurnedClock(SystemClock):
    """A clock that a test can turn forward."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


def engine_of(agent: Agent, store: Any, **options: Any) -> Engine:
    key = agent_key(ROOT_KEY, AgentId(agent.name))
    return Engine(agent, store, key=key, **{"clock": SystemClock(), "entropy": SystemEntropy()} | options)


def call_of(
    capability: str,
    input: Any,
    *,
    agent: str | None = None,
    task: str | None = None,
    step: str = "s1",
    attempt: int = 1,
    deadline_seconds: float = 60,
    caveats: dict[str, Any] | None = None,
    **changes: Any,
) -> Call:
    """A call as the coordinator would send it. A new task each time, unless one is named."""
    agent = agent or capability.partition(".")[0]
    task = task or f"00000000-0000-7000-8000-{next(_tasks):012x}"
    deadline = SystemClock().now_ms() + int(deadline_seconds * 1000)
    allowed = {
        "task": task,
        "step": step,
        "capability": capability,
        "tenant": "default",
        "input": digest(input),
        "before": deadline,
    }
    token = mint(agent_key(ROOT_KEY, AgentId(agent)), allowed | (caveats or {}))
    fields: dict[str, Any] = {
        "award": f"{task}/{step}#{attempt}",
        "key": f"{task}/{step}",
        "agent": agent,
        "task": task,
        "step": step,
        "tenant": "default",
        "capability": capability,
        "input": input,
        "token": token.to_data(),
        "attempt": attempt,
        "deadline_ms": deadline,
    }
    return Call(**fields | changes)


def again(call: Call, **changes: Any) -> Call:
    """The same step in another attempt, or otherwise changed."""
    return call._replace(**changes)


async def answer(engine: Engine, capability: str, input: Any = None, **options: Any) -> Any:
    """The output of a call. Raises the error it was answered with."""
    return output(await engine.execute(call_of(capability, input, agent=engine.agent_id, **options)))


def output(result: Result) -> Any:
    if result.error:
        raise HanseError.from_data(result.error)
    return result.output


def error(result: Result) -> HanseError:
    assert result.error, f"it was answered with {result.output}"
    return HanseError.from_data(result.error)
