"""The configuration: one file, `hanse.yaml`, as one frozen value.

    version: 1
    federation: {name: retail, data: ./var}
    agents:
      - class: hanse.agents.retail:Orders
    approvals:
      - {capability: payments.refund, above: {field: amount, limit: 500}, expires_seconds: 86400}
    gateway: {port: 8000, open_on_loopback: true}

`load` reads it. What cannot be used is refused with the file, the line and the nearest known key. `${NAME}` and
`${NAME:-default}` are filled from the environment; a secret can come from nowhere else. A filled-in value is text
also where it looks like a number, and becomes one where the option is a number. Durations carry their unit in
the name.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from ..contracts import Digest, Effect, HanseError, InvalidConfiguration, Risk
from ..contracts.delegation import CHILD_TASKS
from ..contracts.pool import Purpose
from ..models.minilm import MAX_TOKENS as MINILM_TOKENS
from ..models.minilm import SOURCE as MINILM
from ..models.policy import KNOWN, THRESHOLDS, VALIDATORS, Policy
from ..models.prompt import PromptBook
from ..models.source import Sources
from ..models.tier import Kind, Tier
from ..models.validator import TRAINED, LooksAt
from ..models.vllm_tier import check
from ..models.weighing import weigh
from . import yaml_lines
from .address import Address
from .limits import Limits as CoordinatorLimits
from .limits import Rate

FILE = "hanse.yaml"
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_NAME = r"^[A-Za-z][A-Za-z0-9_-]{0,62}$"


def _from_environment(value: Any) -> Any:
    if isinstance(value, SecretStr | None):
        return value
    if isinstance(value, yaml_lines.FromEnvironment):
        return SecretStr(str(value))
    if value == "":
        return None
    raise PydanticCustomError("secret", "is a secret, and a file is no place for one. Write ${NAME} and set NAME")


Secret = Annotated[SecretStr | None, BeforeValidator(_from_environment)]
"""Text that is never shown. In the file it can only be `${NAME}`; from Python, a `SecretStr`."""


def _one_or_many(value: Any) -> Any:
    return value if isinstance(value, list | tuple | None) else (value,)


def _distinct(section: str, names: Sequence[str]) -> None:
    if twice := next((name for i, name in enumerate(names) if name in names[:i]), None):
        raise PydanticCustomError(
            "twice", "two {section} are called {name}", {"section": section, "name": twice, "at": (section,)}
        )


class Section(BaseModel):
    """A part of the configuration: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        hide_input_in_errors=True,
        defer_build=True,  # most processes are handed a configuration, and never read one
    )

    @model_validator(mode="before")
    @classmethod
    def _known_keys_only(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and (
            unknown := [key for key in data if key not in cls.keys() | set(cls.model_fields)]
        ):
            raise PydanticCustomError(
                "unknown_key", "{hint}", {"key": unknown[0], "hint": _hint(str(unknown[0]), cls.keys())}
            )
        return data

    @classmethod
    def keys(cls) -> set[str]:
        """What may be written in this part of the file."""
        return {option.alias or name for name, option in cls.model_fields.items() if not option.exclude}


class Federation(Section):
    """What it is called and where its truth lies."""

    name: str = Field(default="local", pattern=_NAME)
    """Shown in `hanse status`, and the Ray namespace of its actors. Example: `name: retail`"""
    data: Path = Path("var")
    """Folder of journals, agent stores and run files, seen from the file's folder. Example: `data: ./var`"""
    statistics: bool | None = None
    """Whether outcomes are counted, for `hanse stats` and `/metrics`, in a process of their own. Where there is a
    gateway, when left out. Example: `statistics: false`"""


class StoreEntry(Section):
    """A database in place of files in the data folder, for a cluster: agents may then run on any node and come back on
    another one. The data folder still holds the signing key and what can be made again.
    """

    url: SecretStr
    """Of a PostgreSQL database, as libpq takes it. Each store is a schema of its own in it, named after the federation.
    Example: `url: "${HANSE_STORE}"`"""

    @field_validator("url")
    @classmethod
    def _postgresql(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise PydanticCustomError("store", "write postgresql://USER@HOST/DATABASE")
        return url


class AgentEntry(Section):
    """One agent of the federation."""

    class_: str | type = Field(alias="class")
    """Its class, as `module:Class`. Example: `class: hanse.agents.retail:Orders`"""
    name: str | None = Field(default=None, pattern=_NAME)
    """Its id, which two providers of one domain must give. The class's own when left out.
    Example: `name: carrier-north`"""
    host: str | None = Field(default=None, pattern=_NAME)
    """Agents with the same host share a process. A process of its own when left out. Example: `host: store`"""
    options: dict[str, Any] = Field(default_factory=dict[str, Any], repr=False)
    """What the agent finds in `self.options`. Example: `options: {currency: EUR}`"""
    concurrency: int = Field(default=64, ge=1)
    """Handlers that run at once; more wait in its queue. Example: `concurrency: 16`"""
    queue: int = Field(default=4096, ge=1)
    """Calls that may wait for a handler; the next is tried again later. Example: `queue: 1000`"""
    bulkheads: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict[str, int])
    """Patterns of its capabilities, and how many handlers of each run at once; the first that fits counts. What the
    contracts say (`max_concurrent`) when left out. Example: `bulkheads: {"payments.refund": 4}`"""
    resources: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict[str, float])
    """Ray resources that its node must have; those of one host add up.
    Example: `resources: {CPU: 1, warehouse: 0.1}`"""

    @field_validator("class_")
    @classmethod
    def _is_a_path(cls, value: str | type) -> str | type:
        module, _, name = value.partition(":") if isinstance(value, str) else ("given", "", "given")
        if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
            raise PydanticCustomError("class_path", "is not a class. Write module:Class, such as shop.agents:Orders")
        return value

    @property
    def label(self) -> str:
        """What to call it before its class is loaded."""
        return self.name or (self.class_.rpartition(":")[2] if isinstance(self.class_, str) else self.class_.__name__)

    def load(self) -> type:
        """The class. Raises InvalidConfiguration that says what could not be found."""
        return self.class_ if isinstance(self.class_, type) else load_class(self.class_)


class ConnectorSection(Section):
    """What every connector takes. A test compares these options with those of the connectors themselves."""

    timeout_seconds: float = Field(default=10, gt=0, allow_inf_nan=False)
    """For one operation, from its first byte to its last. Example: `timeout_seconds: 10`"""
    settle_seconds: float = Field(default=2, ge=0, allow_inf_nan=False)
    """How long the outside system may take to show what it accepted; a key it does not know then never arrived.
    Example: `settle_seconds: 2`"""
    max_concurrent: int | None = Field(default=None, ge=1)
    """Operations of one agent at once; more wait. No limit when left out. Example: `max_concurrent: 8`"""
    max_waiting: int = Field(default=1024, ge=1)
    """Operations that may wait for their place or their turn; the next is refused before anything is begun.
    Example: `max_waiting: 100`"""
    per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Operations of one agent a second, on average. No limit when left out. Example: `per_second: 10`"""
    burst: float = Field(default=1, ge=1, allow_inf_nan=False)
    """How many of these at once after a pause. Example: `burst: 20`"""
    breaker_failures: int = Field(default=5, ge=1)
    """Failures in a row after which it is left alone for a while. Example: `breaker_failures: 5`"""
    breaker_seconds: float = Field(default=1, gt=0, allow_inf_nan=False)
    """For how long at first. Also the shortest time between two probes. Example: `breaker_seconds: 1`"""


class SmtpConnector(ConnectorSection):
    """Mail through an SMTP server."""

    kind: Literal["smtp"]
    """Which connector. Example: `kind: smtp`"""
    host: str
    """Example: `host: mail.example.com`"""
    port: int = Field(default=25, ge=1, le=65535)
    """Example: `port: 2525`"""
    sender: str = Field(min_length=3)
    """Address that mail comes from. Example: `sender: store@example.com`"""
    username: str | None = None
    """Leave out for a server that asks for none. Example: `username: store`"""
    password: Secret = None
    """Example: `password: ${MAIL_PASSWORD}`"""
    encryption: Literal["none", "starttls", "tls"] = "none"
    """Example: `encryption: starttls`"""
    max_connections: int = Field(default=4, gt=0)
    """To the server at once, per agent. Example: `max_connections: 4`"""
    lookup_maildir: Path | None = None
    """Where the server delivers, when it is on this machine: there a letter in doubt is looked for. An absolute path.
    Example: `lookup_maildir: /var/mail/store`"""
    lookup_url: str | None = None
    """Answers 200 when a letter is there and 404 when not.
    Example: `lookup_url: "http://127.0.0.1:8025/messages/{message_id}"`"""


class HttpConnector(ConnectorSection):
    """An HTTP service, best one that understands an idempotency key."""

    kind: Literal["http"]
    """Which connector. Example: `kind: http`"""
    base_url: str = Field(pattern=r"^https?://")
    """Example: `base_url: https://erp.example.com/api`"""
    token: Secret = None
    """Sent as a bearer token. Example: `token: ${ERP_TOKEN}`"""
    headers: dict[str, str] = Field(default_factory=dict[str, str], repr=False)
    """Sent with each request. Example: `headers: {X-Store: north}`"""
    connect_seconds: float = Field(default=3, gt=0, allow_inf_nan=False)
    """Until the connection stands. Example: `connect_seconds: 3`"""
    max_response_bytes: int = Field(default=1024 * 1024, gt=0)
    """A longer answer is refused. Example: `max_response_bytes: 1048576`"""
    max_connections: int = Field(default=32, gt=0)
    """To the service at once, per agent. Example: `max_connections: 32`"""
    idempotent_by_key: bool = False
    """The service does nothing twice for one key, so what is in doubt is simply sent again.
    Example: `idempotent_by_key: true`"""
    key_header: str = "Idempotency-Key"
    """The header that carries the key. Example: `key_header: Idempotency-Key`"""
    status_path: str | None = None
    """Where to ask for one key: 200 says that it was done, 404 that it was not.
    Example: `status_path: "/payments?key={key}"`"""
    nothing_happened: tuple[int, ...] = (408, 425, 429)
    """Statuses by which the service says that it has not even begun. Example: `nothing_happened: [429]`"""


class SqlConnector(ConnectorSection):
    """A database, through the statements that stand here and no others."""

    kind: Literal["sql"]
    """Which connector. Example: `kind: sql`"""
    url: str
    """As SQLAlchemy has it, without a password. Example: `url: postgresql+psycopg://stock@db/stock`"""
    password: Secret = None
    """Example: `password: ${STOCK_PASSWORD}`"""
    statements: dict[str, str] = Field(min_length=1)
    """By name; values are bound by name.
    Example: `statements: {take: "UPDATE stock SET number = number - :number WHERE item = :item"}`"""
    create_receipts: bool = True
    """Make the table `hanse_receipt` where it is missing. Example: `create_receipts: false`"""
    max_connections: int = Field(default=8, gt=0)
    """To the database at once, per agent. Example: `max_connections: 8`"""


class OwnConnector(Section):
    """A connector of your own."""

    kind: Literal["class"]
    """Which connector. Example: `kind: class`"""
    class_: str = Field(alias="class", pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")
    """Its class, as `module:Class`. Example: `class: shop.fax:Fax`"""
    options: dict[str, Any] = Field(default_factory=dict[str, Any], repr=False)
    """Keyword arguments of the class. Example: `options: {number: "+49 40 123"}`"""


Connector = Annotated[SmtpConnector | HttpConnector | SqlConnector | OwnConnector, Field(discriminator="kind")]


class Mode(StrEnum):
    """What a rule says."""

    AUTOMATIC = "automatic"
    REVIEW = "review"
    REFUSE = "refuse"


class Above(Section):
    """An amount in the step's input, and the limit up to which nobody is asked."""

    field: str = Field(min_length=1)
    """Where the amount stands in the input. Example: `field: payment.amount`"""
    limit: float = Field(allow_inf_nan=False)
    """Asked is above it, not at it. Example: `limit: 500`"""


class ApprovalRule(Section):
    """When a person is asked before a step runs. The first rule that fits decides; without one, nobody is asked."""

    capability: str = "*"
    """Name, or a pattern with `*` and `?`. Example: `capability: payments.*`"""
    above: Above | None = None
    """Only above an amount. Where the amount is missing or no number, a person is asked.
    Example: `above: {field: amount, limit: 500}`"""
    risk: Annotated[tuple[Risk, ...] | None, BeforeValidator(_one_or_many)] = None
    """Only for contracts of this risk. Example: `risk: [medium, high]`"""
    effect: Annotated[tuple[Effect, ...] | None, BeforeValidator(_one_or_many)] = None
    """Only for contracts with this effect. Example: `effect: irreversible`"""
    labels: Annotated[tuple[str, ...] | None, BeforeValidator(_one_or_many)] = None
    """Only for data or tasks with one of these labels: of the contract, of the task as `key` or `key=value`, or
    that came with the data, from recalled memory and from the steps it was made by.
    Example: `labels: [pii, "channel=mail"]`"""
    all_labels: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = ()
    """Only where all of these come together. Example: `all_labels: [private, untrusted]`"""
    sample: int | dict[Risk, int] | None = None
    """Only one in so many of what the rule fits; the others run. By lot from a secret, the task and the very input, so
    nobody can choose, and a replay draws the same. Example: `sample: {low: 100, medium: 10, high: 1}`"""
    quorum: int = Field(default=1, ge=1, le=32)
    """How many people must say yes. One no is enough. Example: `quorum: 2`"""
    approvers: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = ()
    """Who may decide: names, or groups of them. Everybody of the tenant when left out.
    Example: `approvers: [finance, ann]`"""
    delegates: dict[str, str] = Field(default_factory=dict[str, str])
    """Who may decide in whose place; both together are one vote. Example: `delegates: {ann: bob}`"""
    four_eyes: bool = False
    """Whoever submitted the task may not approve it. Example: `four_eyes: true`"""
    escalate_after_seconds: float | None = Field(default=None, gt=0, le=366 * 86_400, allow_inf_nan=False)
    """After so long without a decision, others may decide too, and are told. Example: `escalate_after_seconds: 3600`"""
    escalate_to: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = ()
    """Who then may. Example: `escalate_to: [managers]`"""
    minutes: float = Field(default=2, ge=0, le=1440, allow_inf_nan=False)
    """What one decision takes of a person's time, for budgets. Example: `minutes: 5`"""
    mode: Mode = Mode.REVIEW
    """`review` asks a person, `automatic` lets it run, `refuse` does not. What is `untrusted` goes outward unasked only
    by a rule that names the label. Example: `mode: automatic`"""
    expires_seconds: float = Field(default=86_400, gt=0, le=366 * 86_400, allow_inf_nan=False)
    """How long the question stands. Nobody answering means no. Example: `expires_seconds: 3600`"""

    @model_validator(mode="after")
    def _asks_above(self) -> Self:
        if self.above and self.mode is not Mode.REVIEW:
            raise PydanticCustomError(
                "automatic_above", "'above' asks a person. Leave it out of an automatic rule, or write mode: review"
            )
        return self

    @model_validator(mode="after")
    def _samples_at_least_one(self) -> Self:
        rates = self.sample.values() if isinstance(self.sample, dict) else [self.sample or 1]
        if any(rate < 1 for rate in rates) or self.sample == 0:
            raise PydanticCustomError("sample", "one in how many? Write 1 or more", {"at": ("sample",)})
        return self

    @model_validator(mode="after")
    def _escalates_to_somebody(self) -> Self:
        if bool(self.escalate_to) != (self.escalate_after_seconds is not None):
            raise PydanticCustomError("escalate", "escalate_after_seconds and escalate_to go together")
        return self


class WebhookNotice(Section):
    """Tells an HTTP service when a person is wanted."""

    kind: Literal["webhook"]
    """Which way. Example: `kind: webhook`"""
    url: str = Field(pattern=r"^https?://[^\s?#]+$")
    """Gets JSON by POST, with `Idempotency-Key`. Example: `url: https://desk.example.com/hooks/approvals`"""
    secret: Secret = None
    """Signs the body: HMAC-SHA256 in hex, as `X-Hanse-Signature: sha256=…`. Example: `secret: ${HOOK_SECRET}`"""
    tenant: str | None = None
    """Only of this tenant; of all when left out. Example: `tenant: default`"""


class MailNotice(Section):
    """Writes to people when one of them is wanted."""

    kind: Literal["mail"]
    """Which way. Example: `kind: mail`"""
    connector: str
    """Name of a connector of kind smtp. Example: `connector: mail`"""
    to: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = Field(min_length=1)
    """Example: `to: [desk@example.com]`"""
    tenant: str | None = None
    """Only of this tenant; of all when left out. Example: `tenant: default`"""


Notice = Annotated[WebhookNotice | MailNotice, Field(discriminator="kind")]


class Gateway(Section):
    """The HTTP surface."""

    host: str = "127.0.0.1"
    """Address it listens on. Example: `host: 0.0.0.0`"""
    port: int = Field(default=8000, ge=0, le=65535)
    """0 takes a free one. Example: `port: 8080`"""
    replicas: int = Field(default=1, ge=1, le=256)
    """Processes that answer, on each node that serves. Example: `replicas: 2`"""
    nodes: Literal["head", "every"] = "head"
    """Where in a cluster it is served: at the `head` alone, or on `every` node that is there at the start, so that
    callers reach it at the node they are on, whatever becomes of the others. Then Ray is started on each of them with
    what `python -m hanse.runtime.gateway.proxy DATA` prints in its environment. Example: `nodes: every`"""
    open_on_loopback: bool = False
    """Let requests without a token in, as the first tenant. Only on a loopback address.
    Example: `open_on_loopback: true`"""

    @model_validator(mode="after")
    def _open_only_on_loopback(self) -> Self:
        if self.open_on_loopback and self.host not in LOOPBACK:
            raise PydanticCustomError(
                "open",
                "open_on_loopback needs a loopback host. Write host: 127.0.0.1, or leave it out and use tokens",
                {"at": ("open_on_loopback",)},
            )
        return self


class TenantBudget(Section):
    """What all tasks of a tenant together may spend on one day in UTC. What is left out has no limit. Each shard of the
    coordinator has an equal part of it and lends nothing.
    """

    cents_per_day: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Prices of steps, and what models took for steps that failed. Example: `cents_per_day: 50000`"""
    tokens_per_day: int | None = Field(default=None, ge=0)
    """Read and written by models in steps. Example: `tokens_per_day: 2000000`"""
    human_minutes_per_day: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Of people who are asked to approve. Example: `human_minutes_per_day: 120`"""


Maskable = Literal["secret", "card", "e-mail", "phone"]


class TenantMemory(Section):
    """What a tenant may keep in the shared memory. What is left out is as for all: see `memory`."""

    records: int | None = Field(default=None, ge=1)
    """Example: `records: 100000`"""
    characters: int | None = Field(default=None, ge=1)
    """Of all texts together. Example: `characters: 50000000`"""
    mask: tuple[Maskable, ...] | None = None
    """What is masked in all that it writes. Example: `mask: [secret, card, e-mail, phone]`"""


class Person(Section):
    """Somebody who asks and decides in a tenant under a name of their own."""

    name: str = Field(pattern=_NAME)
    """As the journal and approval rules have it. Example: `name: ann`"""
    token: Secret = None
    """Bearer token of their requests. Example: `token: ${ANN_TOKEN}`"""


class Tenant(Section):
    """Who may come in. Nothing crosses from one tenant to another."""

    name: str = Field(pattern=_NAME)
    """Example: `name: default`"""
    token: Secret = None
    """Bearer token of its requests. Example: `token: ${HANSE_TOKEN}`"""
    weight: float = Field(default=1, gt=0, le=1e6, allow_inf_nan=False)
    """Its share, against those of the others, where there is not room for all. Example: `weight: 3`"""
    people: tuple[Person, ...] = ()
    """Those who come in under names of their own, so that approvals can tell them apart.
    Example: `people: [{name: ann, token: "${ANN_TOKEN}"}]`"""
    budget: TenantBudget | None = None
    """Example: `budget: {cents_per_day: 50000}`"""
    memory: TenantMemory | None = None
    """Example: `memory: {records: 100000}`"""

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        _distinct("people", [person.name for person in self.people])
        return self


class Coordinator(Section):
    """Who owns tasks."""

    shards: int = Field(default=1, ge=1, le=4096)
    """Coordinators that share the tasks, each with its journal. Cannot shrink while tasks are open.
    Example: `shards: 2`"""
    draining: bool = False
    """Take no new tasks and end those that are open, before an upgrade or a move. Example: `draining: true`"""


class Scale(Section):
    """How many replicas a tier has."""

    min: int = Field(default=1, ge=1, le=1024)
    """Always there. Example: `min: 1`"""
    max: int | None = Field(default=None, ge=1, le=1024)
    """More are started, up to so many, when those that run are four fifths full. As many as `min` when left out.
    Example: `max: 4`"""

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise PydanticCustomError("scale", "max is below min", {"at": ("max",)})
        return self


class TierEntry(Section):
    """One rung of the model pool: a model, the engine that runs it, and what it may use."""

    name: str = Field(pattern=_NAME)
    """What calls and figures name it by. Example: `name: planner`"""
    kind: Kind = Kind.GENERATE
    """What its model does: `generate`, `embed` or `classify`. Of those that embed, the first gives all vectors, and
    no other is started. By one that classifies, MiniLM on an engine of its own, trained validators judge (`heads`).
    Example: `kind: generate`"""
    source: str = Field(min_length=1)
    """Where its weights are: a folder, a hub id, `package:NAME`, or `tiny` for random ones made on the spot. A hub id
    stays at the commit behind its `@`, or at the one that was found first, which `models/hub.json` in the data folder
    keeps with its digest. Example: `source: /models/llama`"""
    digest: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$")
    """What the weights must be; others are not started. `hanse models` shows it.
    Example: `digest: "sha256:0f1e…"`"""
    rank: int = 0
    """Its height: an answer that is refused is tried again further up. Example: `rank: 2`"""
    context_window: int = Field(default=2048, ge=16)
    """Tokens of prompt and answer together. Example: `context_window: 8192`"""
    concurrency: int = Field(default=32, ge=1, le=4096)
    """Calls in one engine at once. A tier takes as many for each of its replicas that answers.
    Example: `concurrency: 64`"""
    queue: int = Field(default=256, ge=0)
    """Calls that may wait for it; the next is refused with 429. Example: `queue: 256`"""
    cents_per_1k_prompt: float = Field(default=0, ge=0, allow_inf_nan=False)
    """Price of 1,000 tokens that are read. Example: `cents_per_1k_prompt: 0.05`"""
    cents_per_1k_completion: float = Field(default=0, ge=0, allow_inf_nan=False)
    """Price of 1,000 tokens that are written. Example: `cents_per_1k_completion: 0.2`"""
    timeout_seconds: float = Field(default=60, gt=0, allow_inf_nan=False)
    """For one answer. Example: `timeout_seconds: 60`"""
    replicas: Scale = Scale()
    """Example: `replicas: {min: 1, max: 4}`"""
    accelerator: str | None = Field(default=None, min_length=1)
    """Ray's name of an accelerator. Runs on processors when left out. Example: `accelerator: H200`"""
    gpus: float = Field(default=1, gt=0, le=1)
    """Share of the accelerator that a replica takes, in memory and in Ray's count, so that tiers can share one. An
    engine over several takes whole ones. Example: `gpus: 0.5`"""
    cpus: float = Field(default=1, gt=0, allow_inf_nan=False)
    """Processors that a replica reserves, and threads that it computes with. Example: `cpus: 4`"""
    memory_gb: float = Field(default=2, gt=0, allow_inf_nan=False)
    """GiB of main memory that a replica reserves; it waits until a node has them free. On processors its weights have
    to fit in, beside 1.75 GiB for programs and the smallest cache. Example: `memory_gb: 4`"""
    engine: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Options of vLLM, as vLLM names them. Example: `engine: {tensor_parallel_size: 2, quantization: fp8}`"""
    heads: tuple[str, ...] | None = None
    """Of a tier that classifies: the trained validators that judge by its vectors, out of `injection`, `risk`,
    `support` and those of `models.heads`; the first three when left out. Example: `heads: [injection]`"""

    @model_validator(mode="after")
    def _has_heads(self) -> Self:
        if self.heads is not None and self.kind is not Kind.CLASSIFY:
            raise PydanticCustomError("heads", "heads belong to a tier of kind: classify", {"at": ("heads",)})
        return self

    @model_validator(mode="after")
    def _can_be_started(self) -> Self:
        try:
            check(self.tier())
        except InvalidConfiguration as error:
            raise PydanticCustomError("tier", "{detail}", {"detail": error.detail}) from None
        return self

    def tier(self) -> Tier:
        """The same as the model pool knows it."""
        own = self.model_dump(exclude={"replicas", "heads"})
        heads = () if self.kind is not Kind.CLASSIFY else TRAINED if self.heads is None else self.heads
        most = self.replicas.max or self.replicas.min
        return Tier(**own, min_replicas=self.replicas.min, max_replicas=most, heads=heads)


class HeadEntry(Section):
    """A validator of your own: a head over the vectors of all-MiniLM-L6-v2, which
    `python -m hanse.benchmarks.heads --own texts.jsonl --name refunds --out heads` trains and calibrates on your texts.
    """

    name: str = Field(pattern=_NAME)
    """What policies and clients name it by, and the name that it was trained under. Example: `name: refunds`"""
    file: Path
    """Where it lies, seen from the file's folder. One that is missing or was changed has no opinion.
    Example: `file: ./heads/refunds.json`"""
    looks_at: LooksAt = LooksAt.ANSWER
    """What it is handed: `answer`, `material` (sources and outputs of tools) or `request`.
    Example: `looks_at: request`"""


class EmbedderEntry(Section):
    """What turns texts into vectors in the processes of a federation: in those of the memory, and in the model pool's
    where no tier embeds. Vectors of two of them are never compared: the memory computes its own anew.
    """

    backend: Literal["onnx", "sentence-transformers"] = "onnx"
    """What computes them. `onnx` runs MiniLM in eight bits on ONNX Runtime, and is the default because it measured 3.4
    times the texts a second of sentence-transformers (benchmarks/README.md). `sentence-transformers` runs that and any
    other model of its kind, and has to be installed. Example: `backend: sentence-transformers`"""
    source: str = Field(default=MINILM, min_length=1)
    """Where its weights are: a folder, a hub id or `package:NAME`, as a tier's. Example: `source: /models/bge-small`"""
    digest: str | None = Field(default=None, pattern=r"^sha256:[0-9a-f]{64}$")
    """What the weights must be; others are not loaded. Example: `digest: "sha256:0f1e…"`"""
    context_window: int = Field(default=256, ge=16)
    """Tokens of a text that are seen, if the model was made for so many. Example: `context_window: 512`"""

    @property
    def is_default(self) -> bool:
        return self == EmbedderEntry()

    @property
    def pinned(self) -> Digest | None:
        return Digest(self.digest) if self.digest else None

    @model_validator(mode="after")
    def _window_is_its_own(self) -> Self:
        """MiniLM on ONNX Runtime sees as many tokens as it was trained with."""
        if self.backend == "onnx" and self.context_window != MINILM_TOKENS:
            problem = {"at": ("context_window",), "tokens": MINILM_TOKENS}
            raise PydanticCustomError("window", "with backend: onnx it is {tokens}", problem)
        return self


class ModelPolicy(Section):
    """What the model pool may do and spend, and when an answer is refused."""

    validators: dict[Purpose, tuple[str, ...]] = Field(default_factory=dict[Purpose, tuple[str, ...]])
    """Who looks at calls, by what they are for: `complete`, `choose`, `extract`, `chat`. Those that are left out keep
    theirs. A client may ask for others, but not without `injection` (which looks at sources and outputs of tools) and
    `risk` (at the request) where they stand here: those look first, and what they refuse costs no token.
    Example: `validators: {chat: [empty, repetition, injection]}`"""
    thresholds: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict[str, float])
    """The score of a validator from which an answer is refused; above 1 it only advises. Those that are left out keep
    theirs. Example: `thresholds: {injection: 0.9, numbers: 2}`"""
    required: tuple[str, ...] = ()
    """Validators without whose opinion nothing is accepted: they look whatever a client asks for. A stream that one of
    them has to judge is held back until it has, and then comes in one piece. Example: `required: [injection]`"""
    judge_seconds: float = Field(default=5, gt=0, allow_inf_nan=False)
    """After which a validator has no opinion. Example: `judge_seconds: 5`"""
    repairs: int = Field(default=1, ge=0, le=10)
    """How often a tier may correct its answer, with the error before its eyes. Example: `repairs: 1`"""
    attempts: int = Field(default=6, ge=1, le=50)
    """Of all tiers together, for one call. Example: `attempts: 6`"""
    max_answer_chars: int = Field(default=200_000, ge=1)
    """A longer answer is refused. Example: `max_answer_chars: 200000`"""
    floors: dict[str, str] = Field(default_factory=dict[str, str])
    """Patterns of capabilities, and the lowest tier that may work for them. The first that fits counts.
    Example: `floors: {"payments.*": planner}`"""
    call_cents: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What one call may cost, all its attempts together. No limit when left out. Example: `call_cents: 2`"""
    task_cents: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What the calls of one task may cost. No limit when left out. Example: `task_cents: 50`"""
    tenant_day_cents: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """What a tenant's calls may cost on one day (UTC). No limit when left out. Example: `tenant_day_cents: 1000`"""
    second_cents: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    """What a second of waiting counts for where the router compares costs. Example: `second_cents: 0.01`"""
    cache_entries: int = Field(default=2_000, ge=0)
    """Answers to pure asks that are kept for each tenant. Example: `cache_entries: 2000`"""
    cache_seconds: float = Field(default=86_400, ge=0, allow_inf_nan=False)
    """For how long. Example: `cache_seconds: 3600`"""
    semantic_threshold: float | None = Field(default=0.97, gt=0, le=1, allow_inf_nan=False)
    """Cosine from which two pure asks mean the same; null for never. Example: `semantic_threshold: 0.97`"""
    breaker_failures: int = Field(default=5, ge=1)
    """Failures in a row after which a tier is left alone for a while. Example: `breaker_failures: 5`"""
    breaker_seconds: float = Field(default=5, gt=0, allow_inf_nan=False)
    """For how long at first. Example: `breaker_seconds: 5`"""
    keep_days: int = Field(default=30, ge=1)
    """For how long the words of prompts and answers are kept that nobody used again. Example: `keep_days: 30`"""
    shadows: dict[str, str] = Field(default_factory=dict[str, str])
    """Names of prompts, and the version that runs beside the current one: one of your own, out of a folder of
    `models.prompts`. Example: `shadows: {extract: "2"}`"""
    shadow_share: float = Field(default=0.1, ge=0, le=1, allow_inf_nan=False)
    """Of the calls of such a prompt. Example: `shadow_share: 0.1`"""

    def named(self) -> list[tuple[tuple[str | int, ...], str]]:
        """The validators that it names, each with its place."""
        named: list[tuple[tuple[str | int, ...], str]] = [(("thresholds", name), name) for name in self.thresholds]
        named += [(("required", place), name) for place, name in enumerate(self.required)]
        for purpose, names in self.validators.items():
            named += [(("validators", purpose.value, place), name) for place, name in enumerate(names)]
        return named

    def policy(self) -> Policy:
        """The same as the model pool knows it."""
        own = self.model_dump(exclude={"validators", "thresholds", "required"})
        return Policy(
            **own,
            validators={**VALIDATORS, **self.validators},
            thresholds={**THRESHOLDS, **self.thresholds},
            required=frozenset(self.required),
        )


class Models(Section):
    """The model pool. Without this section there is none, and work in structured form needs none."""

    tiers: tuple[TierEntry, ...] = ()
    """Each in Ray Serve, on a vLLM engine of its own. Example: `tiers: [{name: planner, source: /models/llama}]`"""
    downloads: bool = False
    """Whether a hub id may be fetched where it is not in the hub's local cache. HF_HUB_OFFLINE=1 forbids it always.
    Example: `downloads: true`"""
    start_at_once: int = Field(default=1, ge=1)
    """Tiers that start side by side; starting one keeps two processors busy. Example: `start_at_once: 2`"""
    heads: tuple[HeadEntry, ...] = ()
    """Example: `heads: [{name: refunds, file: ./heads/refunds.json, looks_at: request}]`"""
    prompts: tuple[Path, ...] = ()
    """Folders of prompt files of your own, seen from the file's folder: `extract@2.md` is a further version of
    `extract`, and the current one as the highest, unless `policy.shadows` names it. Example: `prompts: [./prompts]`"""
    policy: ModelPolicy = ModelPolicy()
    """Example: `policy: {tenant_day_cents: 1000, floors: {"payments.*": planner}}`"""

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        _distinct("models.tiers", [tier.name for tier in self.tiers])
        return self

    @model_validator(mode="after")
    def _validators_are_known(self) -> Self:
        """One that is misspelt would refuse nothing, and nobody would know."""
        own = [head.name for head in self.heads]
        _distinct("models.heads", own)
        for place, name in enumerate(own):
            if name in KNOWN:
                raise PydanticCustomError("head", "{name} is Hanse's own", {"at": ("heads", place), "name": name})
        known = KNOWN.union(own)
        for at, name in self.policy.named():
            if name not in known:
                problem = {"at": ("policy", *at), "name": name, "hint": _near(name, known)}
                words = "no validator is called {name}.{hint} There is {known}"
                raise PydanticCustomError("validator", words, problem | {"known": ", ".join(sorted(known))})
        return self

    @model_validator(mode="after")
    def _heads_are_known(self) -> Self:
        known = (*TRAINED, *(head.name for head in self.heads))
        for number, tier in enumerate(self.tiers):
            for place, name in enumerate(tier.heads or ()):
                if name not in known:
                    problem = {"at": ("tiers", number, "heads", place), "name": name, "known": ", ".join(known)}
                    words = "no trained validator is called {name}. There is {known}"
                    raise PydanticCustomError("heads", words, problem)
        return self

    @model_validator(mode="after")
    def _judged_by_one(self) -> Self:
        by: dict[str, str] = {}
        for place, tier in enumerate(each.tier() for each in self.tiers):
            for head in tier.heads:
                if by.setdefault(head, tier.name) != tier.name:
                    problem = {"at": ("tiers", place), "head": head, "one": by[head], "other": tier.name}
                    words = "{head} judges by {one} and by {other}. Say which judge by each with `heads`"
                    raise PydanticCustomError("heads", words, problem)
        return self

    @model_validator(mode="after")
    def _floors_are_tiers(self) -> Self:
        tiers = [tier.name for tier in self.tiers if tier.kind is Kind.GENERATE]
        for pattern, tier in self.policy.floors.items():
            if tier not in tiers:
                known = ", ".join(tiers) or "none"
                problem = {"at": ("policy", "floors", pattern), "tier": tier, "known": known}
                raise PydanticCustomError("floor", "no tier that generates is called {tier}. There is {known}", problem)
        return self


class Memory(Section):
    """The shared memory. Without this section there is none."""

    shards: int = Field(default=1, ge=1, le=256)
    """Processes that share the tenants. Cannot be changed once something is remembered. Example: `shards: 2`"""
    readers: int = Field(default=0, ge=0, le=64)
    """Processes beside each shard that answer recalls and look-ups, so that the shard has its core for writing. Each
    wants a core, and has an embedder and indexes of its own of the tenants that it is asked for. With none the shard
    answers itself, which is enough below some hundred recalls a second. May be changed at any time.
    Example: `readers: 2`"""
    open_tenants: int = Field(default=256, ge=1)
    """Tenants per shard whose indexes are in memory; others are opened again when they are asked for.
    Example: `open_tenants: 1000`"""
    open_records: int = Field(default=2_000_000, ge=1)
    """Records of all open tenants of a shard together, beyond which those not used for longest are closed.
    Example: `open_records: 500000`"""
    records_per_tenant: int = Field(default=1_000_000, ge=1)
    """What is over it is refused with 402. Example: `records_per_tenant: 100000`"""
    characters_per_tenant: int = Field(default=1 << 30, ge=1)
    """Of all texts together. Example: `characters_per_tenant: 50000000`"""
    working_seconds: float = Field(default=3600, gt=0, allow_inf_nan=False)
    """How long working memory lives when nobody says. Example: `working_seconds: 900`"""
    max_working_seconds: float = Field(default=7 * 86_400, gt=0, allow_inf_nan=False)
    """The longest that it may be asked to live. Example: `max_working_seconds: 86400`"""
    episodic_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """How long what happened is kept when nobody says. For ever when left out. Example: `episodic_days: 365`"""
    semantic_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """How long what is so is kept when nobody says. For ever when left out. Example: `semantic_days: 730`"""
    mask: tuple[Maskable, ...] = ("secret", "card")
    """What is masked in all that is written, before anything else sees it; secrets are, whether or not they are named.
    What is there already, `hanse memory redact` masks. Example: `mask: [secret, card, e-mail, phone]`"""
    mask_region: str | None = Field(default=None, pattern="^[A-Z]{2}$")
    """The country whose telephone numbers are found without a prefix. Example: `mask_region: DE`"""
    compact_seconds: float = Field(default=60, ge=0, allow_inf_nan=False)
    """After something was forgotten, until the store's file is written anew. What was deleted is overwritten at once.
    Example: `compact_seconds: 3600`"""
    snapshots: str | None = None
    """Where snapshots go: a folder, or any URI that pyarrow.fs knows, such as that of a bucket on a server of your own,
    `s3://backup/memory?endpoint_override=minio:9000&scheme=http`. Example: `snapshots: s3://backup/memory`"""
    snapshot_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Between two snapshots of what changed. Only when asked for when left out. Example: `snapshot_seconds: 3600`"""
    tidy_seconds: float = Field(default=3600, gt=0, allow_inf_nan=False)
    """Between two rounds in which old episodes of whoever wrote something become summaries, and what is over a
    tenant's budget goes, the least valuable first. Example: `tidy_seconds: 86400`"""


class RateEntry(Section):
    """So many a second. With `capability`, steps that are over wait; without, a tenant's submissions get 429."""

    capability: str | None = None
    """Name, or a pattern with `*` and `?`. Example: `capability: payments.*`"""
    tenant: str | None = None
    """Name, or a pattern that gives each tenant a rate of its own. Example: `tenant: "*"`"""
    per_second: float = Field(gt=0, allow_inf_nan=False)
    """On average. Example: `per_second: 5`"""
    burst: float = Field(default=1, ge=1, allow_inf_nan=False)
    """How many at once after a pause. Example: `burst: 10`"""

    @model_validator(mode="after")
    def _is_about_something(self) -> Self:
        if self.capability is None and self.tenant is None:
            raise PydanticCustomError("rate", "of what? Write capability: payments.* or tenant: NAME, or both")
        return self

    def rate(self) -> Rate:
        """The same as the coordinator knows it."""
        return Rate(**self.model_dump())


class FileAnchorEntry(Section):
    """A file to which a line is appended for each head."""

    kind: Literal["file"]
    """Which anchor. Example: `kind: file`"""
    path: Path
    """Seen from the configuration's folder; best on another disk, and such that it can only grow.
    Example: `path: /mnt/witness/retail.heads`"""


class HttpAnchorEntry(Section):
    """A service to which each head is posted as JSON."""

    kind: Literal["http"]
    """Which anchor. Example: `kind: http`"""
    url: str = Field(pattern=r"^https?://")
    """Any answer of 200 to 299 says that the head is kept. Example: `url: https://witness.example.com/heads`"""
    token: Secret = None
    """Sent as a bearer token. Example: `token: ${WITNESS_TOKEN}`"""
    timeout_seconds: float = Field(default=10, gt=0, allow_inf_nan=False)
    """For one post. Example: `timeout_seconds: 10`"""


class SyslogAnchorEntry(Section):
    """A syslog collector (RFC 5424)."""

    kind: Literal["syslog"]
    """Which anchor. Example: `kind: syslog`"""
    host: str = Field(min_length=1)
    """Example: `host: logs.example.com`"""
    port: int = Field(default=514, ge=1, le=65535)
    """Example: `port: 601`"""
    protocol: Literal["udp", "tcp"] = "udp"
    """What is sent over UDP may be lost on its way. Example: `protocol: tcp`"""


AnchorEntry = Annotated[FileAnchorEntry | HttpAnchorEntry | SyslogAnchorEntry, Field(discriminator="kind")]


class Audit(Section):
    """Who keeps the heads of the journals outside, so that nobody can write them anew."""

    anchors: tuple[AnchorEntry, ...] | None = None
    """When left out, a file beside the data folder: `var.heads` for `data: ./var`. It shows that a journal or the whole
    folder was put back or replaced; against somebody who can write there too, keep heads on another machine.
    Example: `anchors: [{kind: file, path: /mnt/witness/retail.heads}]`"""
    every_entries: int = Field(default=100, ge=1)
    """So many entries at most are in no head, while the anchors answer. Example: `every_entries: 100`"""
    every_seconds: float = Field(default=10, gt=0, allow_inf_nan=False)
    """So long at most after an entry, while the anchors answer. Example: `every_seconds: 10`"""


class Limits(Section):
    """What is refused, with 429 or 413, before it can do harm; what has to wait; and whom nobody calls for a while."""

    queued_tasks: int = Field(default=10_000, ge=1)
    """Open tasks per coordinator shard. When it is full, tenants that have less than their share still come in.
    Example: `queued_tasks: 10000`"""
    in_flight: int = Field(default=512, ge=1)
    """Steps that a shard gives to one agent at once; more wait, in fair order. Example: `in_flight: 512`"""
    rates: tuple[RateEntry, ...] = ()
    """All that fit count. Per coordinator shard. Example: `rates: [{capability: "payments.*", per_second: 5}]`"""
    repeated_calls: int | None = Field(default=5, ge=1)
    """How often steps of one task may make the same call with the same input; null for without end. Members of a
    `for_each` and retries do not count. Example: `repeated_calls: 5`"""
    breaker_failures: int = Field(default=5, ge=1)
    """Failures in a row after which an agent is not given that capability for a while.
    Example: `breaker_failures: 5`"""
    breaker_seconds: float = Field(default=1, gt=0, allow_inf_nan=False)
    """For how long at first. Also the shortest time between two probes. Example: `breaker_seconds: 1`"""
    lease_seconds: float = Field(default=10, ge=3, allow_inf_nan=False)
    """Silence about a step, or of an agent, after which it counts as interrupted. Example: `lease_seconds: 10`"""
    deaths: int = Field(default=5, ge=2)
    """Times that an agent may die with a step in hand before the step is held for a person. Example: `deaths: 5`"""
    body_bytes: int = Field(default=1024 * 1024, ge=1024)
    """Size of one request. Example: `body_bytes: 1048576`"""


class Configuration(Section):
    """Everything a federation is started with."""

    version: Literal[1] = Field(default=1)
    """Of this format. Example: `version: 1`"""
    federation: Federation = Federation()
    """Example: `federation: {name: retail, data: ./var}`"""
    store: StoreEntry | None = None
    """Where journals and states are kept, if not in the data folder. Example: `store: {url: "${HANSE_STORE}"}`"""
    agents: tuple[AgentEntry, ...] = ()
    """Example: `agents: [{class: "hanse.agents.retail:Orders"}]`"""
    connectors: dict[str, Connector] = Field(default_factory=dict[str, Connector])
    """By the name under which agents ask for them.
    Example: `connectors: {mail: {kind: smtp, host: 127.0.0.1, sender: store@example.com}}`"""
    approvals: tuple[ApprovalRule, ...] = ()
    """In order; the first that fits decides. Example: `approvals: [{risk: high}]`"""
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict[str, tuple[str, ...]])
    """Names for several people, to be used in approval rules. Example: `groups: {finance: [ann, bob]}`"""
    notify: tuple[Notice, ...] = ()
    """Who is told when a person is asked, asked again higher up, or has not answered in time.
    Example: `notify: [{kind: mail, connector: mail, to: desk@example.com}]`"""
    gateway: Gateway = Gateway()
    """Example: `gateway: {port: 8000, open_on_loopback: true}`"""
    tenants: tuple[Tenant, ...] = (Tenant(name="default"),)
    """Example: `tenants: [{name: default, token: "${HANSE_TOKEN}"}]`"""
    coordinator: Coordinator = Coordinator()
    """Example: `coordinator: {shards: 2}`"""
    limits: Limits = Limits()
    """Example: `limits: {queued_tasks: 10000}`"""
    audit: Audit = Audit()
    """Example: `audit: {anchors: [{kind: file, path: /mnt/witness/retail.heads}]}`"""
    models: Models | None = None
    """Example: `models: {tiers: [{name: planner, source: /models/llama}]}`"""
    memory: Memory | None = None
    """Example: `memory: {shards: 1}`"""
    embedder: EmbedderEntry = EmbedderEntry()
    """Example: `embedder: {backend: sentence-transformers, source: /models/bge-small}`"""
    folder: Path = Field(default_factory=Path.cwd, exclude=True, repr=False)
    """Where relative paths start and modules are looked for: the file's folder. Not written in the file.
    Example: none"""

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, data: Any) -> Any:
        """A section with nothing under it, its lines commented out, is as good as none."""
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, Mapping) else data

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        _distinct("agents", [entry.name for entry in self.agents if entry.name])
        _distinct("tenants", [tenant.name for tenant in self.tenants])
        return self

    @model_validator(mode="after")
    def _connectors_leave_room_for_child_tasks(self) -> Self:
        if CHILD_TASKS in self.connectors:
            problem = {"at": ("connectors", CHILD_TASKS), "name": CHILD_TASKS}
            raise PydanticCustomError("reserved", "{name} is what child tasks are called; choose another name", problem)
        return self

    @model_validator(mode="after")
    def _is_kept_somewhere(self) -> Self:
        if self.store is not None and str(self.federation.data) == ":memory:":
            problem = "what is kept in memory is kept in no store. Write a folder for federation.data"
            raise PydanticCustomError("store", problem, {"at": ("store",)})
        return self

    @model_validator(mode="after")
    def _readers_have_something_to_open(self) -> Self:
        if self.memory_readers and str(self.federation.data) == ":memory:":
            problem = "a memory that ends with its process has nothing that readers could open. Write a folder for "
            raise PydanticCustomError("readers", f"{problem}federation.data", {"at": ("memory", "readers")})
        return self

    @model_validator(mode="after")
    def _enough_may_approve(self) -> Self:
        for number, rule in enumerate(self.approvals):
            may = {*self.people_of(rule.approvers)}
            if may and len(may) < rule.quorum:
                problem = {"at": ("approvals", number, "quorum"), "quorum": rule.quorum, "may": len(may)}
                raise PydanticCustomError("quorum", "{quorum} must say yes and only {may} may", problem)
        return self

    @model_validator(mode="after")
    def _mail_can_be_sent(self) -> Self:
        for number, each in enumerate(self.notify):
            if isinstance(each, MailNotice) and not isinstance(self.connectors.get(each.connector), SmtpConnector):
                problem = {"at": ("notify", number, "connector"), "name": each.connector}
                raise PydanticCustomError("mail", "no connector of kind smtp is called {name}", problem)
        return self

    @model_validator(mode="after")
    def _prompts_can_be_used(self) -> Self:
        """Read only where something is said of them: most processes have no use for their files."""
        if self.models and (self.models.prompts or self.models.policy.shadows):
            self._check_prompts()
        return self

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        """Those that are on this disk; the others are weighed when they are found."""
        sources = Sources(self.folder, self.data)
        for number, tier in enumerate(each.tier() for each in (self.models.tiers if self.models else ())):
            size = sources.bytes(tier.source)
            try:
                weigh(tier, size) if size else None
            except InvalidConfiguration as error:
                problem = {"at": ("models", "tiers", number), "detail": error.detail}
                raise PydanticCustomError("weights", "{detail}", problem) from None
        return self

    def _check_prompts(self) -> None:
        at = ("models", "prompts")
        try:
            book = PromptBook.load(*self._prompt_folders)
            at = ("models", "policy", "shadows")
            PromptBook(book, self.models.policy.shadows if self.models else None)
        except InvalidConfiguration as error:
            raise PydanticCustomError("prompts", "{detail}", {"detail": error.detail, "at": at}) from None

    def people_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Names of people, groups taken apart."""
        return tuple(dict.fromkeys(each for name in names for each in self.groups.get(name, (name,))))

    @property
    def rules(self) -> tuple[ApprovalRule, ...]:
        """The approval rules with people in place of groups."""
        return tuple(
            rule.model_copy(
                update={"approvers": self.people_of(rule.approvers), "escalate_to": self.people_of(rule.escalate_to)}
            )
            for rule in self.approvals
        )

    @model_validator(mode="after")
    def _somebody_may_come_in(self) -> Self:
        people = [person for tenant in self.tenants for person in tenant.people]
        if self.gateway.host not in LOOPBACK and not any(each.token for each in (*self.tenants, *people)):
            raise PydanticCustomError(
                "nobody",
                "{host} can be reached from outside and no tenant has a token. "
                "Write tenants: [{name: default, token: ${HANSE_TOKEN}}]",
                {"host": self.gateway.host, "at": ("gateway", "host")},
            )
        return self

    @classmethod
    def for_agents(
        cls, agents: Iterable[type | str | AgentEntry], *, data: str | Path = "var", **sections: Any
    ) -> Self:
        """The configuration of `Federation.local(agents=[...])`: classes, `module:Class` or entries.

        `sections` are those of the file: `for_agents([Ledger], gateway={"port": 0})`. Raises InvalidConfiguration.
        """
        entries = [each if isinstance(each, AgentEntry) else {"class": each} for each in agents]
        federation = {"data": data, **dict(sections.pop("federation", {}))}
        return cls.checked({**sections, "agents": entries, "federation": federation})

    @classmethod
    def checked(cls, data: Mapping[str, Any], document: yaml_lines.Document | None = None) -> Self:
        """Plain data as a configuration. Raises InvalidConfiguration."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _refused(error, document) from None

    @property
    def coordinator_limits(self) -> CoordinatorLimits:
        """The limits as a coordinator knows them."""
        own = self.limits.model_dump(exclude={"queued_tasks", "in_flight", "rates", "body_bytes"})
        return CoordinatorLimits(
            **own,
            open_tasks=self.limits.queued_tasks,
            in_flight_per_agent=self.limits.in_flight,
            rates=tuple(entry.rate() for entry in self.limits.rates),
            weights={tenant.name: tenant.weight for tenant in self.tenants},
        )

    def counting(self, by_default: bool) -> Self:
        """With it settled whether outcomes are counted."""
        if self.federation.statistics is not None:
            return self
        settled = self.federation.model_copy(update={"statistics": by_default})
        return self.model_copy(update={"federation": settled})

    @property
    def memory_shards(self) -> int:
        """None when there is no memory."""
        return self.memory.shards if self.memory else 0

    @property
    def memory_readers(self) -> int:
        """Of each shard."""
        return self.memory.readers if self.memory else 0

    @property
    def data(self) -> Path:
        """The data folder, absolute."""
        return (self.folder / self.federation.data.expanduser()).absolute()

    @property
    def anchors(self) -> tuple[AnchorEntry, ...]:
        """Who keeps the heads; paths are absolute."""
        entries = self.audit.anchors
        if entries is None:
            return (FileAnchorEntry(kind="file", path=default_heads(self.data)),)
        return tuple(_absolute(each, self.folder) for each in entries)

    @property
    def _prompt_folders(self) -> tuple[Path, ...]:
        folders = self.models.prompts if self.models else ()
        return tuple((self.folder / each.expanduser()).absolute() for each in folders)

    def prompt_book(self) -> PromptBook:
        """The prompts that ship with Hanse and those of the configured folders. Blocks. Raises InvalidConfiguration."""
        return PromptBook.load(*self._prompt_folders, shadows=self.models.policy.shadows if self.models else None)

    def over(self, data: Path) -> Self:
        """The same federation over another data folder."""
        return self.model_copy(update={"federation": self.federation.model_copy(update={"data": data.absolute()})})

    def drained(self) -> Self:
        """The same federation, which takes no new tasks."""
        return self.model_copy(update={"coordinator": self.coordinator.model_copy(update={"draining": True})})

    def with_token(self, token: str) -> Self:
        """The same federation, whose first tenant has this token."""
        first, *others = self.tenants
        return self.model_copy(update={"tenants": (first.model_copy(update={"token": SecretStr(token)}), *others)})

    @property
    def address(self) -> Address | None:
        """Of the database that holds the stores; None when they are files in the data folder."""
        return None if self.store is None else Address(self.store.url.get_secret_value(), self.federation.name)

    @property
    def hosts(self) -> dict[str, tuple[AgentEntry, ...]]:
        """Agents by the process they live in. An agent without a host gets one that is its own."""
        found: dict[str, tuple[AgentEntry, ...]] = {}
        for number, entry in enumerate(self.agents):
            host = entry.host or f"{entry.label}-{number}"
            found[host] = (*found.get(host, ()), entry)
        return found


def default_heads(data: Path) -> Path:
    """Where heads are kept when nobody says where: beside the data folder, so that they are not put back with it."""
    return data.with_name(f"{data.name}.heads")


def _absolute(entry: AnchorEntry, folder: Path) -> AnchorEntry:
    if isinstance(entry, FileAnchorEntry):
        return entry.model_copy(update={"path": (folder / entry.path.expanduser()).absolute()})
    return entry


def load(
    path: str | Path | None = None, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Configuration:
    """The configuration in `path`, or in the nearest `hanse.yaml` of this folder and those above it.

    Relative paths start at the file's folder, or at `folder`. Raises InvalidConfiguration.
    """
    file = Path(path) if path else find()
    text = _read(file)
    document = yaml_lines.parse(text, os.environ if environment is None else environment, str(path or file.name))
    body = {} if document.data is None else document.data
    if not isinstance(body, dict):
        raise document.wrong("holds keys and values, such as version: 1")
    if "folder" in body:
        raise document.wrong("folder: is the file's own and is not written in it", "folder")
    if "version" not in body:
        raise document.wrong("the format's version is missing. Write as the first line: version: 1")
    return Configuration.checked({**body, "folder": (folder or file.parent).absolute()}, document)


def find(start: Path | None = None) -> Path:
    """The nearest `hanse.yaml`, from `start` (the working folder) upwards. Raises InvalidConfiguration."""
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    raise InvalidConfiguration(
        f"there is no {FILE} here or above. Start a project with: hanse new NAME", folder=str(here)
    )


def load_class(path: str) -> type:
    """The class at `module:Class`. Raises InvalidConfiguration that says which half was not found."""
    module_name, _, name = path.partition(":")
    found: Any = load_module(module_name)
    for part in name.split("."):
        near = _near(part, [each for each in vars(found) if not each.startswith("_")])
        found = getattr(found, part, None)
        if found is None:
            raise InvalidConfiguration(f"{path}: {module_name} has no {part!r}.{near}")
    if not isinstance(found, type):
        raise InvalidConfiguration(f"{path} is not a class")
    return found


def load_module(name: str) -> ModuleType:
    """The module of that name. Raises InvalidConfiguration, also when it breaks while it loads."""
    try:
        return importlib.import_module(name)
    except HanseError:
        raise
    except ModuleNotFoundError as error:
        raise _not_importable(name, error) from error
    except Exception as error:
        raise InvalidConfiguration(f"{name} breaks while it loads: {type(error).__name__}: {error}") from error


def importable(folder: Path) -> None:
    """Makes the modules beside the configuration importable in this process."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _not_importable(name: str, error: ModuleNotFoundError) -> InvalidConfiguration:
    own = error.name is not None and name.split(".")[0] == error.name.split(".")[0]
    advice = "Modules are looked for beside hanse.yaml and among the installed ones" if own else "Install it"
    return InvalidConfiguration(f"{name}: there is no module {error.name!r}. {advice}")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidConfiguration(f"{file} cannot be read: {reason}", file=str(file)) from None


def _hint(key: str, known: set[str]) -> str:
    return f"unknown key {key!r}.{_near(key, known)} Known: {', '.join(sorted(known))}"


def _near(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` or nothing. A duration without its unit is near to the one that has it."""
    names = list(known)
    near = [name for name in names if name.startswith(word + "_")] or difflib.get_close_matches(
        word, names, n=1, cutoff=0.6
    )
    return f" Did you mean {near[0]!r}?" if near else ""


def _refused(error: ValidationError, document: yaml_lines.Document | None) -> InvalidConfiguration:
    """Our error for pydantic's: the first problem in words, every problem as an id."""
    found = sorted((_problem(each, document) for each in error.errors(include_url=False)), key=lambda pair: pair[0])
    texts = [text for _, text in found]
    more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
    where = {"file": document.name, "line": found[0][0]} if document else {}
    return InvalidConfiguration(texts[0] + more, **where, problems=texts)


def _problem(each: ErrorDetails, document: yaml_lines.Document | None) -> tuple[int, str]:
    """The line of one problem, and its text: `hanse.yaml:7: agents[0]: unknown key 'hots'. Did you mean 'host'?`."""
    context = each.get("ctx", {})
    path = (*each["loc"], *context.get("at", ()))
    detail = _words(each)
    if document is None:
        return 0, f"{yaml_lines.place(path)}: {detail}".removeprefix(": ")
    at = document.known(path)
    line = document.line_of((*at, context["key"]) if each["type"] == "unknown_key" else at)
    return line, f"{document.name}:{line}: {yaml_lines.place(at)}: {detail}".replace(": : ", ": ")


def _words(each: ErrorDetails) -> str:
    context = each.get("ctx", {})
    if each["type"] == "missing":
        return f"{str(each['loc'][-1])!r} is missing"
    if each["type"] == "union_tag_invalid":
        kinds = _kinds(each)
        return f"there is no kind {context['tag']!r}.{_near(context['tag'], kinds)} Known: {', '.join(kinds)}"
    if each["type"] == "union_tag_not_found":
        return f"'kind' is missing. Known: {', '.join(_kinds(each))}"
    if each["loc"] == ("version",):
        return "this Hanse reads version 1"
    message = _PLAINLY.get(each["type"], each["msg"])
    return message[0].lower() + message[1:]


def _kinds(each: ErrorDetails) -> tuple[str, ...]:
    kinds = {"audit": ("file", "http", "syslog"), "notify": ("webhook", "mail")}
    return kinds.get(str(each["loc"][0]) if each["loc"] else "", ("smtp", "http", "sql", "class"))


_PLAINLY = {
    "tuple_type": "must be a list. Write each item in a line of its own, after '- '",
    "model_type": "holds keys and values, such as {name: value}",
    "model_attributes_type": "holds keys and values, such as {name: value}",
    "dict_type": "holds keys and values, such as {name: value}",
}
