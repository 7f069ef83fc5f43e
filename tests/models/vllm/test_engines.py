"""Real engines under Ray Serve: words, words under a schema, streams, vectors."""

import json

from hanse.contracts.pool import TierState

from .conftest import Serving, ask

SCHEMA = {
    "type": "object",
    "properties": {
        "answer": {"type": "string", "maxLength": 60},
        "amount": {"type": "integer", "minimum": 0, "maximum": 99},
        "choice": {"enum": ["refund", "exchange", "none"]},
    },
    "required": ["answer", "amount", "choice"],
    "additionalProperties": False,
}


async def test_answers_and_counts_its_tokens(serving: Serving) -> None:
    raw = await serving.planner.complete(ask("What is the status of my order?"), 60)
    assert raw.text
    assert 0 < raw.completion_tokens <= 48
    assert raw.prompt_tokens == await serving.planner.count_tokens(ask("What is the status of my order?"))


async def test_an_answer_under_a_schema_fits_it(serving: Serving) -> None:
    raw = await serving.planner.complete(ask("Refund it", answer=SCHEMA, max_tokens=200), 60)
    data = json.loads(raw.text)
    assert set(data) == {"answer", "amount", "choice"}
    assert data["choice"] in ("refund", "exchange", "none")
    assert raw.finish_reason == "stop"


async def test_is_ready_and_says_of_what(serving: Serving) -> None:
    condition = serving.keeper.condition("planner")
    assert condition.state is TierState.READY
    assert serving.planner.digest.startswith("sha256:")
