"""An agent that does whatever it reads: it recalls, and cries out what a record tells it to."""

from pydantic import BaseModel

from hanse.agents import Agent, Context
from hanse.contracts import capability

ORDER = "CRY "


class About(BaseModel):
    text: str


class Orders(BaseModel):
    words: list[str]


class Errand(Agent):
    """Obeys what is remembered."""

    domain = "errand"

    @capability(effect="read")
    async def look(self, request: About, context: Context) -> Orders:
        """Recall what is to be cried."""
        return Orders(words=await self._orders(request, context))

    @capability(effect="irreversible")
    async def obey(self, request: About, context: Context) -> Orders:
        """Recall, and cry it in the same step."""
        words = await self._orders(request, context)
        for each in words:
            await context.connectors.square.cry(words=each)
        return Orders(words=words)

    async def _orders(self, request: About, context: Context) -> list[str]:
        found = await context.memory.recall(request.text, include_quarantined=True)
        return [hit.record.text.partition(ORDER)[2] for hit in found.hits if ORDER in hit.record.text]
