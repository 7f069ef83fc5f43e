"""What the store's documents and the requests for them have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Document(BaseModel):
    """A frozen value with known fields. A change is a new value (`evolve`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_data(self) -> dict[str, Any]:
        """Plain JSON data, every field present."""
        return self.model_dump(mode="json")

    def evolve(self, **changes: Any) -> Any:
        """A copy with other values for some fields, checked like the original."""
        return type(self).model_validate({**self.to_data(), **changes})


class Request(Document):
    """What a caller sends. Unknown fields are an error, so a misspelt one is not silently dropped."""


class ForCustomer(Request):
    """A request made for somebody."""

    customer: str | None = None
    """The identified customer. When given, whatever belongs to somebody else is refused."""
