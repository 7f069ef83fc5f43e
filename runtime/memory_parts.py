"""What a shard of the memory is made of: its index, its packing, and its hygiene."""

from ..contracts import Clock
from ..contracts.pool import Models
from ..memory import hygiene
from ..memory.index import TenantIndex
from ..memory.recall import recollect
from ..memory.redaction import Masks
from ..memory.service import Parts


def parts(clock: Clock, models: Models | None = None, masks: Masks | None = None) -> Parts:
    """`models` write summaries; without them they are made of sentences as they were said. `masks` are what every write
    passes; secrets and card numbers are masked when left out.
    """
    return Parts(make_index=TenantIndex, recollect=recollect, **hygiene.parts(clock, models=models, masks=masks))
