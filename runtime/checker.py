"""The checker: proves of a plan, before it runs, what contracts allow to prove, and refuses the rest with the reason.

Every capability exists in a version that fits; literals keep the input schema; references lead to something an output
schema has, of a type the input takes; required inputs are bound; each reversible step of a longer plan can be undone.
What it returns are the pins: the part of each contract that the task keeps for its whole life.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ..contracts import (
    CapabilityName,
    Contract,
    Digest,
    InvalidInput,
    InvalidPlan,
    JsonObject,
    NotFound,
    Plan,
    Step,
    StepId,
)
from ..contracts.schema import canonical, digest, pointer
from ..contracts.template import has_bindings, is_binding, is_literal
from .directory import Directory
from .execution import Pin
from .validators import validator

KEPT = 512
"""Proved plans that are remembered."""
_SCALARS = {"string", "integer", "number", "boolean", "null", "array", "object"}


@dataclass(frozen=True, slots=True)
class Proved:
    """A plan that may run, with its pins, ready to be journaled."""

    plan: Plan
    pins: dict[CapabilityName, Pin]
    pins_data: JsonObject


class Checker:
    """Parses and checks plans. The same plan under the same contracts is proved once: most differ in input only."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._proved: OrderedDict[tuple[Digest, int], Proved] = OrderedDict()

    def prove(self, data: Any) -> Proved:
        """Raises InvalidPlan, NotFound, or InvalidInput when the plan is no plain data."""
        key = (digest(data), self._directory.generation)
        found = self._proved.get(key)
        if found is None:
            found = self._proved[key] = self._check(Plan.parse(data))
            if len(self._proved) > KEPT:
                self._proved.popitem(last=False)
        return found

    def _check(self, plan: Plan) -> Proved:
        pins = check(plan, self._directory)
        return Proved(plan, pins, {name: pin.to_data() for name, pin in pins.items()})


def check(plan: Plan, directory: Directory) -> dict[CapabilityName, Pin]:
    """The pins of a plan that may run. Raises InvalidPlan with a pointer, NotFound for an unknown capability, or
    InvalidContract for one whose schema cannot be used.
    """
    contracts = {step.id: _contract(step, i, directory) for i, step in enumerate(plan.steps)}
    for i, step in enumerate(plan.steps):
        Checked(plan, contracts).check(step, pointer("steps", i))
    pins = {contract.name: Pin.of(contract) for contract in contracts.values()}
    return pins | _undo_pins(plan, contracts, directory) | _confirm_pins(plan, contracts, directory)


class Checked:
    """A plan with the contract of each step."""

    def __init__(self, plan: Plan, contracts: Mapping[StepId, Contract]) -> None:
        self._plan = plan
        self._contracts = contracts

    def check(self, step: Step, at: str) -> None:
        contract = self._contracts[step.id]
        self._fit(step.input, contract.input_schema, contract.input_schema, f"{at}/input", contract)

    def _fit(self, template: Any, schema: JsonObject, root: JsonObject, at: str, contract: Contract) -> None:
        if not has_bindings(template):
            _fit_literal(template, schema, root, at, contract)
        elif is_literal(template):
            _fit_literal(template["$literal"], schema, root, at, contract)
        elif is_binding(template):
            self._fit_reference(template["$from"], resolve_schema(schema, root), at, contract)
        elif isinstance(template, dict) and "$first" not in template:
            self._fit_object(cast("JsonObject", template), resolve_schema(schema, root), root, at, contract)
        elif isinstance(template, list):
            items = resolve_schema(schema, root).get("items", {})
            for i, value in enumerate(cast("list[Any]", template)):
                self._fit(value, items, root, f"{at}/{i}", contract)

    def _fit_object(
        self, template: JsonObject, schema: JsonObject, root: JsonObject, at: str, contract: Contract
    ) -> None:
        properties = schema.get("properties")
        if properties is None:
            return
        missing = [name for name in schema.get("required", []) if name not in template]
        if missing:
            raise _wrong(at, f"{contract.name} needs {missing[0]!r}", contract)
        for name, value in template.items():
            if name in properties:
                self._fit(value, properties[name], root, at + pointer(name), contract)
            elif schema.get("additionalProperties") is False:
                raise _wrong(at, f"{contract.name} takes no {name!r}; it takes {', '.join(properties)}", contract)

    def _fit_reference(self, text: str, wanted: JsonObject, at: str, contract: Contract) -> None:
        root, *path = text.split(".")
        source = self._contracts.get(StepId(root))
        if source is None:
            return
        step = self._plan.by_id[StepId(root)]
        given = {"type": "array", "items": source.output_schema} if step.for_each is not None else source.output_schema
        found = self._follow(text, path, given, source, at)
        types, accepted = _types(found, source.output_schema), _types(wanted, contract.input_schema)
        if types and accepted and not _overlap(types, accepted):
            raise _wrong(at, f"{text!r} is {_words(types)}, {contract.name} takes {_words(accepted)} here", contract)

    def _follow(self, text: str, path: list[str], schema: JsonObject, source: Contract, at: str) -> JsonObject:
        for part in path:
            schema = resolve_schema(schema, source.output_schema)
            if "properties" in schema and part not in schema["properties"] and not _open(schema):
                known = ", ".join(schema["properties"])
                raise _wrong(at, f"{text!r}: {source.name} gives no {part!r}; it gives {known}", source)
            schema = _part(schema, part)
        return resolve_schema(schema, source.output_schema)


def check_input(contract: Contract, input: Any) -> None:
    """Raises InvalidPlan unless `input` keeps the contract's input schema, InvalidContract if that cannot be used."""
    _fit_literal(input, contract.input_schema, contract.input_schema, "/input", contract)


def check_output(contract: Contract, output: Any) -> None:
    """Raises InvalidInput unless `output` is what the contract promises: for one that comes from a person."""
    try:
        _fit_literal(output, contract.output_schema, contract.output_schema, "/output", contract)
    except InvalidPlan as error:
        raise InvalidInput(error.detail, **error.ids) from None


def _contract(step: Step, index: int, directory: Directory) -> Contract:
    try:
        return directory.contract(step.call, step.version)
    except NotFound as error:
        raise error.about(pointer=pointer("steps", index, "call"), step=step.id) from None


def _undo_pins(plan: Plan, contracts: Mapping[StepId, Contract], directory: Directory) -> dict[CapabilityName, Pin]:
    pins: dict[CapabilityName, Pin] = {}
    for step in plan.steps:
        undo = contracts[step.id].compensation
        if undo is not None and directory.providers(undo.capability):
            pins[undo.capability] = Pin.of(directory.contract(undo.capability))
        elif undo is not None and len(plan.steps) > 1:
            detail = (
                f"{step.call} is undone by {undo.capability}, which no agent offers, so this plan could not be undone"
            )
            raise _wrong(pointer("steps", plan.steps.index(step)), detail, contracts[step.id])
    return pins


def _confirm_pins(plan: Plan, contracts: Mapping[StepId, Contract], directory: Directory) -> dict[CapabilityName, Pin]:
    pins: dict[CapabilityName, Pin] = {}
    for i, step in enumerate(plan.steps):
        confirm = contracts[step.id].confirmation
        if confirm is None:
            continue
        if not directory.providers(confirm.capability):
            detail = f"{step.call} is confirmed by {confirm.capability}, which no agent offers, so it would stay staged"
            raise _wrong(pointer("steps", i), detail, contracts[step.id])
        pins[confirm.capability] = Pin.of(directory.contract(confirm.capability))
    return pins


def _fit_literal(value: Any, schema: JsonObject, root: JsonObject, at: str, contract: Contract) -> None:
    for error in _validator_of(schema, root, contract).iter_errors(value):
        raise _wrong(at + pointer(*error.instance_path), f"{contract.name}: {error.message}", contract)


def _validator_of(schema: JsonObject, root: JsonObject, contract: Contract) -> Any:
    """Whole inputs are the common case, so theirs is kept per contract and not looked up by the schema's text."""
    if schema is not contract.input_schema:
        return validator(canonical({**schema, "$defs": root.get("$defs", {})}))
    if contract.digest not in _of_contract:
        _of_contract[contract.digest] = validator(canonical(schema))
    return _of_contract[contract.digest]


_of_contract: dict[str, Any] = {}


def resolve_schema(schema: JsonObject, root: JsonObject) -> JsonObject:
    """Follows local `$ref`s."""
    while "$ref" in schema:
        schema = root.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {})
    return schema


def _part(schema: JsonObject, part: str) -> JsonObject:
    if part in schema.get("properties", {}):
        return schema["properties"][part]
    inner = schema.get("items") if part.isdecimal() else schema.get("additionalProperties")
    return cast("JsonObject", inner) if isinstance(inner, dict) else {}


def _open(schema: JsonObject) -> bool:
    return bool(schema.get("additionalProperties"))


def _types(schema: JsonObject, root: JsonObject) -> set[str]:
    """The JSON types a schema allows; empty when it does not say."""
    if options := schema.get("anyOf") or schema.get("oneOf"):
        each = [_types(resolve_schema(option, root), root) for option in options]
        return set[str]().union(*each) if all(each) else set()
    kind = schema.get("type")
    return set(_listed(kind)) & _SCALARS


def _listed(kind: Any) -> Iterator[str]:
    if isinstance(kind, str):
        yield kind
    elif isinstance(kind, list):
        yield from cast("list[str]", kind)


def _overlap(given: set[str], accepted: set[str]) -> bool:
    return (
        bool(given & accepted)
        or ("integer" in given and "number" in accepted)
        or ("number" in given and "integer" in accepted)
    )


def _words(types: set[str]) -> str:
    return " or ".join(sorted(types))


def _wrong(at: str, detail: str, contract: Contract) -> InvalidPlan:
    return InvalidPlan(f"{at or '/'}: {detail}", pointer=at, capability=contract.name)
