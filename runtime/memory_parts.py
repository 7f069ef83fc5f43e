"""What a shard of the memory is made of: its index, its packing, and its hygiene."""

from ..contracts import Clock
from ..memory import hygiene
from ..memory.index import TenantIndex
from ..memory.recall import recollect
from ..memory.service import Parts


def parts(clock: Clock) -> Parts:
    return Parts(make_index=TenantIndex, recollect=recollect, **hygiene.parts(clock))
