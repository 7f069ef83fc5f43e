"""An agent that remembers and recalls, and one thing it does without."""

from pydantic import BaseModel

from hanse.agents import Agent, Context
from hanse.contracts import capability


class Note(BaseModel):
    text: str


class Notes(BaseModel):
    texts: list[str]


class Librarian(Agent):
    """Keeps notes in the shared memory."""

    domain = "librarian"

    @capability(effect="irreversible")
    async def note(self, request: Note, context: Context) -> Note:
        """Remember a note."""
        told = await context.memory.remember(request.text)
        return Note(text=told.record.id)

    @capability(effect="read")
    async def look(self, request: Note, context: Context) -> Notes:
        """Recall notes."""
        found = await context.memory.recall(request.text, limit=3)
        return Notes(texts=[hit.record.text for hit in found.hits])

    @capability(effect="pure")
    async def count(self, request: Note) -> Note:
        """Count the letters of a note."""
        return Note(text=str(len(request.text)))
