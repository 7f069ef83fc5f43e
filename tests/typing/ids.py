"""Identifiers that cannot be swapped: what must pass the type checker, and what must not.

Not run: `tests/test_typing.py` has pyright read it. A line that must be wrong says so with `# error: RULE`.
"""

from typing import assert_type

from hanse.contracts import (
    AgentId,
    ApprovalId,
    AwardId,
    CapabilityName,
    Digest,
    Domain,
    Epoch,
    IdempotencyKey,
    Plan,
    Sequence,
    Step,
    StepId,
    TaskId,
    digest,
)
from hanse.contracts.ids import approval_id, award_id, domain_of, shard_of, step_key
from hanse.contracts.token import Key, Token, agent_key, mint

task, step = TaskId("0193502f-7c00-7005-8123-456789abcdef"), StepId("pay")

# What follows from what

assert_type(step_key(task, step), IdempotencyKey)
assert_type(award_id(task, step, 1), AwardId)
assert_type(approval_id(task, step), ApprovalId)
assert_type(domain_of(CapabilityName("orders.refund")), Domain)
assert_type(shard_of(task), int)
assert_type(digest({}), Digest)
assert_type(agent_key(b"", AgentId("ledger")), Key)

# The wrong way round

step_key(step, task)  # error: reportArgumentType
award_id(step, task, 1)  # error: reportArgumentType
approval_id(task, task)  # error: reportArgumentType
shard_of(step)  # error: reportArgumentType
domain_of(Domain("orders"))  # error: reportArgumentType
agent_key(b"", Domain("ledger"))  # error: reportArgumentType

# Bare values are no identifiers

step_key("task", "step")  # error: reportArgumentType
shard_of("0193502f-7c00-7005-8123-456789abcdef")  # error: reportArgumentType
mint(b"not derived from the root key", {})  # error: reportArgumentType
Step(id="pay", call=CapabilityName("ledger.deposit"))  # error: reportArgumentType
Step(id=step, call="ledger.deposit")  # error: reportArgumentType
Step(id=CapabilityName("pay"), call=StepId("ledger.deposit"))  # error: reportArgumentType

# Numbers are told apart too

sequence: Sequence = Sequence(1)
epoch: Epoch = sequence  # error: reportAssignmentType
number: int = epoch

# Plans and tokens are what they say

plan = Plan.parse({})
assert_type(plan.steps, tuple[Step, ...])
assert_type(plan.dependencies, dict[StepId, frozenset[StepId]])
assert_type(plan.by_id[step], Step)
plan.by_id[task]  # error: reportArgumentType
plan.steps = ()  # error: reportAttributeAccessIssue
assert_type(mint(Key(b""), {}).attenuated({}), Token)
