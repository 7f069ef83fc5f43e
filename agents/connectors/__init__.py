"""Connectors that ship with Hanse: HTTP and mail. Each knows one protocol, and how to tell what came of a request.

What makes an effect happen once is not here but in the ledger (`agents/ledger.py`).
"""

from .http import HttpConnector, HttpRefused, Reply
from .smtp import MailRefused, Sent, SmtpConnector, message_id

__all__ = [
    # Connectors
    "HttpConnector",
    "SmtpConnector",
    # What they answer
    "HttpRefused",
    "MailRefused",
    "Reply",
    "Sent",
    "message_id",
]
