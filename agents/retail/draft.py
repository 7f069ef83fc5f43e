"""A plan while it is drawn up: steps by action, and who has to wait for whom.

Actions that touch the same order, or the same customer's profile and money, must happen in the order in which they
were asked for. So the draft keeps for each such thing the steps that may change it and the steps that read it since: a
reader waits for the writers before it, a writer for the writers and the readers.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Template = Any
StepData = dict[str, Any]

CUSTOMER = "customer"
"""What stands for a customer's profile and money among the things that actions touch; the others are order ids."""


@dataclass(slots=True)
class Draft:
    """A plan while it is drawn up."""

    steps: list[StepData] = field(default_factory=list)
    results: dict[str, Template] = field(default_factory=dict)
    letters: list[StepData] = field(default_factory=list)
    identifications: list[str] = field(default_factory=list)
    """Steps that say who the customer is, latest first."""
    changing: list[str] = field(default_factory=list)
    """Every step that may change an order, a profile or a balance."""
    writers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Per key (an order's id, `CUSTOMER`) the steps of the latest action that may change it."""
    readers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Per key the steps that read it since."""

    def notices(self) -> list[StepData]:
        """The letters, each after every change of the request: nothing is announced that might still be undone."""
        return [{**letter, "after": self.changing} for letter in self.letters]


class Part:
    """The steps of one action."""

    def __init__(self, draft: Draft, prefix: str, arguments: Mapping[str, Any]) -> None:
        self.draft, self.prefix, self.arguments = draft, prefix, arguments

    def id(self, role: str) -> str:
        return f"{self.prefix}_{role}"

    def of(self, role: str, path: str = "") -> Template:
        """A reference to the output of another step of this action."""
        return {"$from": f"{self.id(role)}.{path}" if path else self.id(role)}

    def add(self, role: str, call: str, input: Template, *, when: Any = None, after: Iterable[str] = ()) -> str:
        step = {"id": self.id(role), "call": call, "input": input, "optional": True}
        extra = {"when": when, "after": list(dict.fromkeys(after))}
        self.draft.steps.append(step | {name: value for name, value in extra.items() if value})
        return step["id"]

    def read(self, role: str, call: str, input: Template, *keys: str) -> str:
        """A step that must see what earlier actions did to `keys`."""
        step = self.add(role, call, input, after=self.before(*keys, readers=False))
        for key in keys:
            self.draft.readers[key].append(step)
        return step

    def before(self, *keys: str, readers: bool = True) -> list[str]:
        """The earlier steps that touch these keys."""
        tables = (self.draft.writers, self.draft.readers) if readers else (self.draft.writers,)
        return [step for table in tables for key in keys for step in table[key]]

    def changes(self, keys: Sequence[str], *roles: str) -> None:
        """These steps of the action may change `keys`: whatever comes later waits for them."""
        steps = [self.id(role) for role in roles]
        self.draft.changing += steps
        for key in keys:
            self.draft.writers[key], self.draft.readers[key] = steps, []

    def result(self, role: str) -> None:
        """What the task answers for this action; null when it was refused."""
        self.draft.results[self.prefix] = self.of(role)

    def for_customer(self, input: Mapping[str, Any]) -> Template:
        """The input, bound to the identified customer when the request has identified one."""
        found = [{"$from": f"{step}.user_id"} for step in self.draft.identifications]
        return {**input, "customer": {"$first": found}} if found else dict(input)

    def letter(self, kind: str, *, when: Any, change: str = "change", **details: Template) -> None:
        """A contact step and the mail, to be placed at the end of the plan."""
        order = {"order_id": self.arguments["order_id"]} if "order_id" in self.arguments else {}
        self.draft.letters += [
            _optional(self.id("contact"), "customers.get", {"user_id": self.of(change, "user_id")}, when),
            _optional(
                self.id("notice"),
                "notices.send",
                {
                    "kind": kind,
                    "to": self.of("contact", "email"),
                    "name": self.of("contact", "name.first_name"),
                    **order,
                    **details,
                },
                when,
            ),
        ]


def _optional(id: str, call: str, input: Template, when: Any) -> StepData:
    return {"id": id, "call": call, "input": input, "when": when, "optional": True}
