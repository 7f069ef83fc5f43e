"""A customer's profile, and how a customer is recognised."""

import unicodedata

from .address import Address
from .document import Document


class Name(Document):
    first_name: str
    last_name: str


class Customer(Document):
    """Who somebody is. The payment methods are kept by payments, the orders themselves by orders."""

    user_id: str
    name: Name
    address: Address
    email: str
    orders: list[str]

    @property
    def email_key(self) -> str:
        return folded(self.email)

    @property
    def name_key(self) -> str:
        return name_key(self.name.first_name, self.name.last_name, self.address.zip)


def name_key(first_name: str, last_name: str, zip: str) -> str:
    """What a customer without email is found by. The names are taken as spoken, the zip code to the letter."""
    return f"{folded(first_name)}|{folded(last_name)}|{zip}"


def folded(text: str) -> str:
    """Without case, accents and outer spaces: how a name sounds over the telephone."""
    parts = unicodedata.normalize("NFKD", text.strip().casefold())
    return "".join(part for part in parts if not unicodedata.combining(part))
