"""The notices agent: writes to customers. A letter that was sent stays sent, so plans do this last."""

from ...contracts import capability
from ..agent import Agent
from ..context import Context
from .document import Document
from .letters import Notice, written
from .register import Page, PageRequest, Register


class Sent(Document):
    """A letter as it went out."""

    notice: str
    to: str
    subject: str


class Notices(Agent):
    """Writes to customers by mail, each letter exactly once."""

    domain = "notices"
    _sent = Register("sent", Sent)

    @capability(version="1.0", effect="irreversible", latency_ms=30)
    async def send(self, request: Notice, context: Context) -> Sent:
        """Send a customer the letter for a change that was made."""
        letter = written(request)
        await context.connectors.mail.send(to=request.to, subject=letter.subject, body=letter.body)
        sent = Sent(notice=context.idempotency_key, to=request.to, subject=letter.subject)
        await self._sent.add(context, sent.notice, sent)
        return sent

    @capability(version="1.0", effect="read")
    async def sent(self, request: PageRequest, context: Context) -> Page:
        """The letters that went out, page by page."""
        return await self._sent.page(context, request)
