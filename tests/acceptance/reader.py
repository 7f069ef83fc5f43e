"""An agent that asks the model pool, for tests with real processes."""

from pydantic import BaseModel

from hanse import Agent, Context, capability


class Text(BaseModel):
    text: str


class Shape(BaseModel):
    rows: int
    columns: int


class Reader(Agent):
    """Reads texts."""

    domain = "reader"

    @capability(effect="read")
    async def read(self, request: Text, context: Context) -> Shape:
        """Turn a text into a vector."""
        rows, columns = (await context.models.embed([request.text])).shape
        return Shape(rows=rows, columns=columns)
