"""What a shard of the memory is made of: its index, its packing, its gate, and how it forgets."""

from ..contracts import Clock
from ..memory.erasure import plan
from ..memory.facts import key
from ..memory.gate import Gate
from ..memory.index import TenantIndex
from ..memory.recall import recollect
from ..memory.service import Parts


def parts(clock: Clock) -> Parts:
    return Parts(make_index=TenantIndex, recollect=recollect, gate=Gate(clock), plan_erasure=plan, key_of=key)
