"""What a shard of the memory is made of: its index, its packing, its gate, and how it forgets."""

from ..memory.erasure import plan
from ..memory.facts import key
from ..memory.gate import Gate
from ..memory.service import Parts


def parts() -> Parts:
    from ..memory.index import TenantIndex
    from ..memory.recall import recollect

    return Parts(make_index=TenantIndex, recollect=recollect, gate=Gate(), plan_erasure=plan, key_of=key)
