"""Identifiers that cannot be swapped, and the one way new ones are made.

Every identifier is a `NewType` over a plain value, so a function that takes a task and a step cannot be
called the wrong way round, and nothing has to be unwrapped before it goes on the wire.
"""

import re
from typing import NewType

TaskId = NewType("TaskId", str)
"""UUIDv7 in text. Its twelve `rand_a` bits carry the coordinator shard that owns the task (see `shard_of`)."""

StepId = NewType("StepId", str)
"""Name of a step in its plan. A member of a `for_each` is `step[3]`; a compensation is `step~`."""

AgentId = NewType("AgentId", str)
"""Name of one agent in the federation. Two providers of one domain have the same domain and different ids."""

Domain = NewType("Domain", str)
"""The first half of a capability's name: `orders` in `orders.refund`."""

CapabilityName = NewType("CapabilityName", str)
"""`domain.method`, without the version."""

Tenant = NewType("Tenant", str)
"""The unit of isolation. Nothing crosses it."""

ApprovalId = NewType("ApprovalId", str)
"""A question to a person: `task:step` of the step it gates, so asking twice is asking once. Fits into a URL's path."""

AwardId = NewType("AwardId", str)
"""`task/step#attempt`: one award of one step to one agent."""

IdempotencyKey = NewType("IdempotencyKey", str)
"""Chosen by the caller for a task, derived as `task/step` for a step. Same key, same effect."""

Digest = NewType("Digest", str)
"""`sha256:` and 64 hex digits over the canonical JSON of a value."""

Sequence = NewType("Sequence", int)
"""Place of an entry in its journal, from 1. Order comes from here, never from a clock."""

Epoch = NewType("Epoch", int)
"""Number of a writer's reign over a store. A store refuses a commit from a lower one."""

SHARD_BITS = 12
MAX_SHARDS = 1 << SHARD_BITS

COORDINATORS = "coordinator-"
"""How the name of every coordinator begins."""
_COORDINATOR = re.compile(rf"{COORDINATORS}(\d+)")
_TASK_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def uuid7(unix_ms: int, randomness: bytes, shard: int = 0) -> str:
    """RFC 9562 version 7 in text: 48 bits of milliseconds, `shard` in the 12 `rand_a` bits, 62 random bits.

    `randomness` gives at least 8 bytes. RFC 9562 section 5.7 leaves `rand_a` to the implementation. Raises ValueError
    for a shard or a time that does not fit and for too little randomness: such an id would lead to another's task.
    """
    if not (0 <= shard < MAX_SHARDS and 0 <= unix_ms < 1 << 48 and len(randomness) >= 8):
        raise ValueError(f"no id for shard {shard} at {unix_ms} ms with {len(randomness)} random bytes")
    tail = int.from_bytes(randomness[:8], "big") & ((1 << 62) - 1)
    number = unix_ms << 80 | 0x7 << 76 | shard << 64 | 0b10 << 62 | tail
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def shard_of(task: TaskId) -> int:
    """The shard written into a task's id. Raises ValueError when the text is not such an id."""
    if not _TASK_ID.fullmatch(task):
        raise ValueError(f"{task!r:.80} is not a task id")
    return int(task[15:18], 16)


def coordinator_name(shard: int) -> str:
    """Of a shard's coordinator: the name of its actor, of its store's file without the ending, and of its journal."""
    return f"{COORDINATORS}{shard}"


def shard_named(name: str) -> int | None:
    """The shard of the coordinator with this name; None for what is no coordinator's name."""
    found = _COORDINATOR.fullmatch(name)
    return int(found[1]) if found else None


def step_key(task: TaskId, step: StepId) -> IdempotencyKey:
    """The idempotency key of a step: the same for every attempt, so an agent runs it once."""
    return IdempotencyKey(f"{task}/{step}")


def award_id(task: TaskId, step: StepId, attempt: int) -> AwardId:
    return AwardId(f"{task}/{step}#{attempt}")


def approval_id(task: TaskId, step: StepId) -> ApprovalId:
    return ApprovalId(f"{task}:{step}")


def domain_of(capability: CapabilityName) -> Domain:
    return Domain(capability.partition(".")[0])
