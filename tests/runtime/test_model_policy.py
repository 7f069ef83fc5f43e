"""What hanse.yaml says of the model pool's policy is what the pool does."""

from dataclasses import fields

import pytest
from pydantic import ValidationError

from hanse.contracts.pool import Purpose
from hanse.models.policy import THRESHOLDS, VALIDATORS, Policy
from hanse.runtime.config import ModelPolicy, Models


def test_what_is_not_written_is_the_pools_own_default():
    assert ModelPolicy().policy() == Policy()


def test_every_rule_can_be_written_but_the_room_of_the_caches():
    assert {field.name for field in fields(Policy)} - set(ModelPolicy.model_fields) == {"cache_bytes"}


def test_what_is_written_changes_that_and_nothing_else():
    policy = ModelPolicy.model_validate(
        {"validators": {"chat": ["empty"]}, "thresholds": {"injection": 0.9}, "required": ["injection"], "repairs": 0}
    ).policy()
    assert policy.validators == {**VALIDATORS, Purpose.CHAT: ("empty",)}
    assert policy.thresholds == {**THRESHOLDS, "injection": 0.9}
    assert (policy.repairs, policy.required) == (0, {"injection"})


def test_a_floor_is_a_tier_that_is_there():
    tiers = [{"name": "planner", "source": "tiny"}]
    Models.model_validate({"tiers": tiers, "policy": {"floors": {"payments.*": "planner"}}})
    with pytest.raises(ValidationError, match=r"planer\. There is planner"):
        Models.model_validate({"tiers": tiers, "policy": {"floors": {"payments.*": "planer"}}})
