"""A small town for tests with real processes: a vault that keeps numbers, a crier whose calls the outside hears, a
notary who waits for a person, and a messenger who has others do his work."""

import asyncio
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hanse import Agent, Context, Refusal, capability
from hanse.agents.connector import Absent, Answer, Connector, ConnectorOptions, Done, operation
from hanse.contracts import JsonObject, PersonNeeded


class Put(BaseModel):
    name: str
    number: int


class Taken(BaseModel):
    name: str
    number: int
    total: int = 0


class Cry(BaseModel):
    words: str


class Cried(BaseModel):
    words: str


class Full(Refusal):
    code = "vault.full"


class Vault(Agent):
    """Keeps numbers under names."""

    domain = "vault"

    @capability(version="1.0", effect="reversible", compensation="take_back", price_cents=1)
    async def put(self, request: Put, context: Context) -> Taken:
        """Add a number to what is kept under a name."""
        total = await context.state.get("total", request.name, default=0) + request.number
        await context.state.put("total", request.name, total)
        return Taken(name=request.name, number=request.number, total=total)

    @capability(version="1.0", effect="reversible", compensation="put")
    async def take_back(self, request: Put, context: Context) -> Taken:
        """Take a number away from what is kept under a name."""
        total = await context.state.get("total", request.name, default=0) - request.number
        await context.state.put("total", request.name, total)
        return Taken(name=request.name, number=request.number, total=total)

    @capability(version="1.0", effect="read")
    async def total(self, request: Put, context: Context) -> Taken:
        """Say what is kept under a name."""
        total = await context.state.get("total", request.name, default=0)
        return Taken(name=request.name, number=0, total=total)

    @capability(version="1.0", effect="read")
    async def refuse(self, request: Put, context: Context) -> Taken:
        """Always refuse."""
        raise Full("the vault is full", name=request.name)


class Crier(Agent):
    """Says things that the outside hears."""

    domain = "crier"

    @capability(version="1.0", effect="irreversible")
    async def cry(self, request: Cry, context: Context) -> Cried:
        """Cry words out, once."""
        await context.connectors.square.cry(words=request.words)
        return Cried(words=request.words)


class NotaryOptions(BaseModel):
    seal: Path
    """Without this file nothing is signed."""


class Notary(Agent):
    """Signs, when somebody has brought the seal."""

    domain = "notary"
    Options = NotaryOptions
    options: NotaryOptions

    @capability(version="1.0", effect="reversible", compensation="sign")
    async def draft(self, request: Put, context: Context) -> Put:
        """Draft a paper, which is good until it is signed."""
        await context.state.put("drafted", request.name, request.number)
        return request

    @capability(version="1.0", effect="irreversible")
    async def sign(self, request: Put, context: Context) -> Put:
        """Sign a paper, which a person must make possible."""
        if not await asyncio.to_thread(self.options.seal.exists):
            raise PersonNeeded("the seal is not here")
        await context.state.put("signed", request.name, request.number)
        return request


class Messenger(Agent):
    """Has others do what he is asked for."""

    domain = "messenger"

    @capability(version="1.0", effect="irreversible", price_cents=2)
    async def bring(self, request: Put, context: Context) -> Taken:
        """Have a number put into the vault."""
        return Taken(**await context.tasks.call("vault.put", request))


class SquareOptions(ConnectorOptions):
    file: Path


class Square(Connector):
    """The outside: a file to which each cry adds a line with its key. It does not recognise keys by itself."""

    Options = SquareOptions

    @property
    def askable(self) -> bool:
        return True

    @operation(effect="irreversible")
    async def cry(self, key: str, *, words: str) -> dict[str, Any]:
        """Appends a line, on disk when this returns."""
        await asyncio.to_thread(_append, self.options.file, f"{key}\t{words}\n")
        return {"words": words}

    async def reconcile(self, operation: str, key: str, request: JsonObject) -> Answer:
        heard = await asyncio.to_thread(heard_keys, self.options.file)
        return Done({"words": request["words"]}) if key in heard else Absent()


def heard_keys(file: Path) -> list[str]:
    """The keys of everything that was cried, in order, doubles included."""
    return [line.partition("\t")[0] for line in file.read_text().splitlines()] if file.exists() else []


def _append(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as sink:
        sink.write(line)
        sink.flush()
        os.fsync(sink.fileno())
