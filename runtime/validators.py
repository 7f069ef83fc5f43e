"""Validators of contracts' schemas. A contract comes from whoever dials in, and a validator that followed its
references would fetch what they name; so nothing is ever fetched, and a schema refers only to itself.
"""

from functools import lru_cache
from typing import NoReturn

import jsonschema_rs

from ..contracts import Contract, InvalidContract, JsonObject
from ..contracts.schema import canonical


@lru_cache(maxsize=4096)
def validator(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    """Of a schema in canonical JSON. Raises InvalidContract for one that no value can be held against."""
    try:
        return jsonschema_rs.Draft202012Validator(schema.decode(), retriever=_fetches_nothing)
    except ValueError as error:
        reason = str(error).partition("\n")[0][:300]
        raise InvalidContract(f"a contract's schema cannot be used: {reason}") from None


def check_references(contract: Contract) -> None:
    """Raises InvalidContract when a schema of the contract refers to anything outside of itself."""
    for where, schema in (("input", contract.input_schema), ("output", contract.output_schema)):
        if foreign := _asked_for(schema):
            raise InvalidContract(
                f"{contract.name}: the {where} schema refers to {foreign[:200]}. Write the schema out, or use $defs",
                capability=contract.name,
            )


def _asked_for(schema: JsonObject) -> str:
    """What a validator of this schema would fetch; empty for nothing. What else is wrong with it is not looked at."""
    asked = [""]

    def refuse(uri: str) -> NoReturn:
        asked.append(uri)
        _fetches_nothing(uri)

    try:
        jsonschema_rs.Draft202012Validator(canonical(schema).decode(), retriever=refuse)
    except ValueError:
        return asked[-1]
    return ""


def _fetches_nothing(uri: str) -> NoReturn:
    raise ValueError(f"a schema refers only to itself, not to {uri}")
