"""What tiers there are, as one gateway process knows it, so that not every request has to ask."""

import difflib
import time
from collections.abc import Sequence

from ...contracts import ModelUnavailable, NotFound
from ...contracts.pool import TierView
from ..tenant_models import TenantModels

FRESH_SECONDS = 5.0


class ModelNotFound(NotFound):
    """There is no such model. The detail names near ones."""

    code = "model_not_found"


class TierList:
    """The tiers by name. Which there are does not change while a pool runs; how they are is asked anew."""

    def __init__(self) -> None:
        self._views: dict[str, TierView] = {}
        self._looked_at = -FRESH_SECONDS

    async def all(self, models: TenantModels) -> list[TierView]:
        """How each is now. Raises ModelUnavailable."""
        found = await models.tiers()
        self._views, self._looked_at = {view.name: view for view in found}, time.monotonic()
        return found

    async def find(self, models: TenantModels, name: str, others: Sequence[str] = ()) -> TierView:
        """Raises ModelNotFound, naming near ones and `others` among them; ModelUnavailable when nobody knows."""
        if name not in self._views or time.monotonic() - self._looked_at > FRESH_SECONDS:
            await self._look_again(models, name)
        if name not in self._views:
            raise not_found(name, (*others, *self._views))
        return self._views[name]

    async def _look_again(self, models: TenantModels, name: str) -> None:
        """A pool that is just away still has the tiers that it had."""
        try:
            await self.all(models)
        except ModelUnavailable:
            if name not in self._views:
                raise


def not_found(name: str, known: Sequence[str]) -> ModelNotFound:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ModelNotFound(
        f"there is no model {name[:100]!r}.{hint} Known: {', '.join(known)}", param="model", model=name[:100]
    )
