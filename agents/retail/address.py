"""A postal address, as orders and customers have it."""

from .document import Document


class Address(Document):
    """Where something is sent. `address2` may be empty."""

    address1: str
    address2: str
    city: str
    country: str
    state: str
    zip: str
