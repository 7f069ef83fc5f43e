"""A contract's schema refers to nothing outside of itself, and nothing is fetched to find that out."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import jsonschema_rs
import pytest

from hanse.contracts import CapabilityName, Contract, Effect, HanseError, InvalidContract
from hanse.contracts.schema import canonical
from hanse.runtime.checker import Checker, check_input
from hanse.runtime.directory import Directory
from hanse.runtime.validators import validator


class _Counting(BaseHTTPRequestHandler):
    requests: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        body = b'{"type": "object"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests are quiet."""


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """The URL of a schema that a validator could fetch. Counts who does."""
    _Counting.requests.clear()
    with HTTPServer(("127.0.0.1", 0), _Counting) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/schema.json"
        server.shutdown()
        serving.join()


def contract(input: dict, output: dict | None = None) -> Contract:
    return Contract(CapabilityName("orders.get"), "1.0", Effect.READ, "Test.", input, output or {})


def joined(*offered: Contract) -> Directory:
    directory = Directory()
    described = {"agent": "orders", "domain": "orders", "contracts": [each.to_data() for each in offered]}
    directory.join(described, host="host", incarnation="1", now=0)
    return directory


def forms(url: str) -> list[dict]:
    base = url.rpartition("/")[0] + "/"
    return [
        {"$ref": url},
        {"type": "object", "properties": {"order": {"$ref": url + "#/properties/id"}}},
        {"$id": base, "items": {"$ref": "schema.json"}},
        {"$defs": {"order": {"anyOf": [{"$ref": url}, {"type": "null"}]}}, "$ref": "#/$defs/order"},
        {"$ref": "file:///etc/hostname"},
    ]


@pytest.mark.parametrize("form", range(5))
def test_an_agent_whose_schema_refers_elsewhere_may_not_join(elsewhere: str, form: int):
    schema = forms(elsewhere)[form]
    for offered in (contract(schema), contract({}, schema)):
        with pytest.raises(InvalidContract, match=r"orders.get: the (in|out)put schema refers to"):
            joined(offered)
    assert _Counting.requests == []


@pytest.mark.parametrize("form", range(5))
def test_whoever_checks_an_input_fetches_nothing_either(elsewhere: str, form: int):
    schema = forms(elsewhere)[form]
    with pytest.raises(InvalidContract, match="cannot be used"):
        check_input(contract(schema), {"order": "#W1"})
    with pytest.raises(InvalidContract, match="cannot be used"):
        validator(canonical({**schema, "$comment": "for the first time"}))
    assert _Counting.requests == []


def test_the_server_would_have_counted(elsewhere: str):
    jsonschema_rs.Draft202012Validator({"$ref": elsewhere})
    assert _Counting.requests == ["/schema.json"]


def test_a_schema_that_refers_to_itself_or_only_names_a_reference_may_join():
    own = {"$defs": {"id": {"type": "string"}}, "properties": {"id": {"$ref": "#/$defs/id"}}}
    named = {"properties": {"$ref": {"const": {"$ref": "http://127.0.0.1:9/x"}}}}
    directory = joined(contract({**own, "allOf": [named]}))
    plan = {"steps": [{"id": "a", "call": "orders.get", "input": {"id": "#W1"}}], "output": {"$from": "a"}}
    assert Checker(directory).prove(plan).pins
    with pytest.raises(HanseError, match="is not of type"):
        check_input(directory.contract(CapabilityName("orders.get")), {"id": 5})
