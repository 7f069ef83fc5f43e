"""What `hanse status` says of an agent's health."""

import pytest

from hanse.contracts import AgentView
from hanse.runtime.cli.status import _health

OPEN = "ledger.deposit: breaker open since 2027-01-15T08:00:00.500Z (timed_out), next probe in 3 s"


@pytest.mark.parametrize(
    ("view", "says"),
    [
        ({}, "ok"),
        ({"healthy": False, "reason": "is not here"}, "is not here"),
        ({"troubles": [OPEN]}, OPEN),
        ({"healthy": False, "reason": "is not here", "troubles": [OPEN]}, "is not here"),
    ],
)
def test_an_agent_is_well_away_or_well_but_for_one_thing(view: dict[str, object], says: str):
    assert _health(AgentView.model_validate({"id": "ledger", "domain": "ledger"} | view)).plain == says
