"""All stores of a federation in one PostgreSQL database."""

from .place import OpenStore, Reader
from .postgresql import PostgresReader, PostgresStore, store_names, where


class Database:
    """Schemas of a database, one for each store. Keeps the `Place` port."""

    def __init__(self, url: str, federation: str) -> None:
        self.url = url
        self.federation = federation

    def open(self, name: str, schema: str, *, secure_delete: bool = False) -> OpenStore:
        """The server decides what becomes of the room of deleted rows, whatever `secure_delete` says."""
        return PostgresStore(self.url, self.federation, name, schema)

    def reader(self, name: str, schema: str) -> Reader:
        return PostgresReader(self.url, self.federation, name, schema)

    def names(self) -> list[str]:
        return store_names(self.url, self.federation)

    def where(self, name: str) -> str:
        return where(self.url, self.federation, name)
