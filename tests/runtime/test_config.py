"""The configuration file: what it accepts, and that each refusal names the file, the line and what to write."""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import SecretStr

from hanse.agents.connectors import HttpConnector, SmtpConnector
from hanse.agents.connectors.sql import SqlConnector
from hanse.contracts import InvalidConfiguration
from hanse.runtime import config
from hanse.runtime.config import Configuration
from hanse.runtime.gateway import Settings as GatewaySettings

FULL = """\
version: 1
federation: {name: retail, data: ./var}
agents:
  - class: hanse.agents.retail:Orders
    host: store
    options: {currency: "${CURRENCY:-EUR}"}
    resources: {warehouse: 0.5}
  - {class: "hanse.agents.retail:Carrier", name: carrier-north, host: store}
  - {class: "hanse.agents.retail:Carrier", name: carrier-south}
connectors:
  mail: {kind: smtp, host: 127.0.0.1, port: ${MAIL_PORT:-2525}, sender: store@example.com, password: ${MAIL_PASSWORD}}
approvals:
  - {capability: "payments.refund", above: {field: amount, limit: 500}, expires_seconds: 86400}
  - {risk: high, mode: review}
gateway: {host: 127.0.0.1, port: 8000, open_on_loopback: true}
tenants:
  - {name: default, token: ${HANSE_TOKEN}}
coordinator: {shards: 2}
limits: {queued_tasks: 100, body_bytes: 2048}
"""
ENVIRONMENT = {"HANSE_TOKEN": "canary-token", "MAIL_PASSWORD": "canary-password"}


@pytest.fixture
def read(tmp_path):
    def reader(text: str, **environment: str) -> Configuration:
        file = tmp_path / "hanse.yaml"
        file.write_text(text, encoding="utf-8")
        return config.load(file, environment)

    return reader


@pytest.fixture
def refusal(read):
    def reader(text: str, **environment: str) -> InvalidConfiguration:
        with pytest.raises(InvalidConfiguration) as caught:
            read(text, **environment)
        return caught.value

    return reader


def test_a_full_file_becomes_one_value(read):
    full = read(FULL, **ENVIRONMENT)
    assert full.federation.name == "retail"
    assert [entry.label for entry in full.agents] == ["Orders", "carrier-north", "carrier-south"]
    assert full.connectors["mail"].port == 2525
    assert full.approvals[0].above == config.Above(field="amount", limit=500)
    assert full.coordinator.shards == 2
    assert full.limits.queued_tasks == 100


def test_agents_of_one_host_share_a_process_and_others_have_their_own(read):
    hosts = read(FULL, **ENVIRONMENT).hosts
    assert {name: len(entries) for name, entries in hosts.items()} == {"store": 2, "carrier-south-2": 1}


def test_the_data_folder_lies_beside_the_file(read, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert read("version: 1\nfederation: {data: ./state}\n").data == tmp_path / "state"


def test_people_have_names_of_their_own_at_the_gateway(read):
    text = "version: 1\ntenants: [{name: shop, token: ${A}, people: [{name: ann, token: ${B}}, {name: bob}]}]\n"
    credentials = GatewaySettings.of(read(text, A="one", B="two")).credentials
    assert [(each.tenant, each.by) for each in credentials] == [("shop", "shop"), ("shop", "ann")]


def test_groups_are_the_people_in_them(read):
    text = """\
version: 1
groups: {finance: [ann, bob], managers: [boss]}
approvals:
  - {approvers: [finance, cy, ann], quorum: 3, escalate_after_seconds: 60, escalate_to: managers}
"""
    (rule,) = read(text).rules
    assert (rule.approvers, rule.escalate_to) == (("ann", "bob", "cy"), ("boss",))


def test_a_default_fills_in_for_a_variable_that_is_not_set_or_empty(read):
    assert read(FULL, **ENVIRONMENT).agents[0].options == {"currency": "EUR"}
    assert read(FULL, **ENVIRONMENT, CURRENCY="").agents[0].options == {"currency": "EUR"}
    assert read(FULL, **ENVIRONMENT, CURRENCY="HKD").agents[0].options == {"currency": "HKD"}


def test_a_filled_in_value_is_a_number_where_the_option_is(read):
    assert read(FULL, **ENVIRONMENT, MAIL_PORT="1025").connectors["mail"].port == 1025


def test_a_value_from_the_environment_cannot_change_the_structure(read):
    nasty = "x, token: stolen} #\n- oops: ["
    entry = read("version: 1\nagents:\n  - {class: a:B, options: {greeting: ${NASTY}}}\n", NASTY=nasty).agents[0]
    assert entry.options == {"greeting": nasty}


def test_two_dollars_keep_a_reference_as_it_is(read):
    assert read('version: 1\nagents: [{class: "a:B", options: {t: "$${NAME}"}}]\n').agents[0].options == {
        "t": "${NAME}"
    }


def test_no_repr_and_no_dump_shows_a_secret(read):
    full = read(FULL + "  #\n", **ENVIRONMENT)
    shown = f"{full!r} {full} {full.model_dump()} {full.model_dump_json()} {full.tenants[0]!r}"
    assert "canary" not in shown
    assert full.tenants[0].token is not None
    assert full.tenants[0].token.get_secret_value() == "canary-token"


def test_a_secret_in_the_file_is_refused_and_not_repeated(refusal):
    error = refusal("version: 1\ntenants:\n  - name: default\n    token: canary-1\n")
    assert error.ids["line"] == 4
    assert "tenants[0].token: is a secret, and a file is no place for one. Write ${NAME}" in error.detail
    assert "canary" not in str(error)


def test_a_default_for_a_secret_is_a_secret_in_the_file(refusal):
    assert "is a secret" in refusal("version: 1\ntenants: [{name: a, token: '${T:-canary}'}]\n").detail


def test_an_empty_default_means_no_secret(read):
    assert read("version: 1\ntenants: [{name: a, token: '${T:-}'}]\n").tenants[0].token is None


def test_an_empty_section_takes_its_defaults(read):
    assert read("version: 1\nlimits:\n#  queued_tasks: 5\nagents:\n") == read("version: 1\n")


WRONG = {
    "an unknown key names the nearest": (
        "version: 1\nagents:\n  - class: a:B\n    hots: x\n",
        4,
        "agents[0]: unknown key 'hots'. Did you mean 'host'?",
    ),
    "an unknown section names the nearest": ("version: 1\n\naprovals: []\n", 3, "Did you mean 'approvals'?"),
    "a duration without its unit": ("version: 1\napprovals:\n- expires: 3\n", 3, "Did you mean 'expires_seconds'?"),
    "a value of the wrong type": (
        "version: 1\ngateway:\n  host: 127.0.0.1\n  port: many\n",
        4,
        "gateway.port: input should be a valid integer",
    ),
    "a value out of range": ("version: 1\ngateway: {port: 70000}\n", 2, "gateway.port: input should be less than"),
    "a missing key": ("version: 1\nagents:\n  - host: x\n", 3, "agents[0]: 'class' is missing"),
    "something that is no class": ("version: 1\nagents:\n  - class: Orders\n", 3, "Write module:Class"),
    "a connector without its kind": ("version: 1\nconnectors:\n  mail: {}\n", 3, "connectors.mail: 'kind' is missing"),
    "a connector of an unknown kind": ("version: 1\nconnectors:\n  mail:\n    kind: smpt\n", 3, "Did you mean 'smtp'?"),
    "a key of another connector": (
        "version: 1\nconnectors:\n  erp:\n    kind: http\n    base_url: http://x\n    baseurl: x\n",
        6,
        "Did you mean 'base_url'?",
    ),
    "a limit on an automatic rule": (
        "version: 1\napprovals:\n- risk: low\n- {mode: automatic, above: {field: a, limit: 1}}\n",
        4,
        "'above' asks a person",
    ),
    "a quorum of more than may": (
        "version: 1\napprovals:\n- {approvers: [ann, bob], quorum: 3}\n",
        3,
        "3 must say yes and only 2 may",
    ),
    "an escalation to nobody": (
        "version: 1\napprovals:\n- {escalate_after_seconds: 5}\n",
        3,
        "escalate_after_seconds and escalate_to go together",
    ),
    "a sample of none": ("version: 1\napprovals:\n- {sample: 0}\n", 3, "one in how many? Write 1 or more"),
    "mail through nothing": (
        "version: 1\nnotify:\n- {kind: mail, connector: post, to: a@example.com}\n",
        3,
        "no connector of kind smtp is called post",
    ),
    "a notice without its kind": (
        "version: 1\nnotify:\n- {url: 'http://x/y'}\n",
        3,
        "'kind' is missing. Known: webhook, mail",
    ),
    "a secret for a webhook in the file": (
        "version: 1\nnotify:\n- {kind: webhook, url: 'http://x/y', secret: canary}\n",
        3,
        "a file is no place for one",
    ),
    "two people of one name": (
        "version: 1\ntenants: [{name: a, people: [{name: x}, {name: x}]}]\n",
        2,
        "two people are called x",
    ),
    "an unknown risk": (
        "version: 1\napprovals: [{risk: [low, hihg]}]\n",
        2,
        "input should be 'low', 'medium' or 'high'",
    ),
    "a list where keys belong": ("version: 1\ngateway:\n  - port: 1\n", 2, "holds keys and values"),
    "keys where a list belongs": ("version: 1\nagents:\n  class: x\n", 2, "must be a list"),
    "a double key": ("version: 1\nagents: []\nagents: []\n", 3, "'agents' is given twice, first in line 2"),
    "two agents of one name": (
        "version: 1\nagents:\n- {class: 'a:B', name: x}\n- {class: 'a:C', name: x}\n",
        2,
        "two agents are called x",
    ),
    "an open gateway that is not on loopback": (
        "version: 1\ngateway:\n  host: 0.0.0.0\n  open_on_loopback: true\n",
        4,
        "open_on_loopback needs a loopback host",
    ),
    "an outside gateway without any token": (
        "version: 1\nagents: []\ngateway:\n  host: 0.0.0.0\n",
        4,
        "no tenant has a token. Write tenants: [{name: default, token: ${HANSE_TOKEN}}]",
    ),
    "a variable that is not set": (
        "version: 1\nfederation:\n  name: ${NOWHERE}\n",
        3,
        "the environment variable NOWHERE is not set, or empty. Set it, or write ${NOWHERE:-default}",
    ),
    "an unfinished reference": ("version: 1\nfederation: {name: '${NO WHERE}'}\n", 2, "names no variable"),
    "a key from the environment": ("version: 1\n${KEY}: x\n", 2, "a key cannot come from the environment"),
    "broken YAML": ("version: 1\nagents: [\n  {class: a\n\n", 5, "is not YAML here"),
    "a Python object": ("version: 1\nagents: !!python/object:os.system {}\n", 2, "agents: must be a list"),
    "a foreign tag": ("version: 1\nfederation: {name: !vault x}\n", 2, "is not YAML here: could not determine"),
    "an alias inside itself": ("version: 1\nagents: &a [*a]\n", 2, "an alias stands inside of what it names"),
    "a merge": ("version: 1\ngateway:\n  <<: {port: 1}\n", 3, "merging with << is not done here"),
    "a list at the top": ("- version: 1\n", 1, "holds keys and values"),
    "no version": ("agents: []\n", 1, "Write as the first line: version: 1"),
    "an empty file": ("", 1, "Write as the first line: version: 1"),
    "a later version": ("# new\nversion: 2\n", 2, "this Hanse reads version 1"),
    "a folder of prompts that is not there": (
        "version: 1\nmodels:\n  downloads: false\n  prompts: [./words]\n",
        4,
        "models.prompts: there is no folder",
    ),
    "a shadow of a version that nobody wrote": (
        "version: 1\nmodels:\n  policy:\n    keep_days: 3\n    shadows: {extract: '2'}\n",
        5,
        "models.policy.shadows: prompt 'extract' has no version '2' to run beside another. It has 1",
    ),
    "a shadow of no prompt": (
        "version: 1\nmodels:\n  policy: {shadows: {extrakt: '2'}}\n",
        3,
        "There is choose, extract, extract_turns, repair",
    ),
    "a threshold of no validator": (
        "version: 1\nmodels:\n  policy:\n    repairs: 1\n    thresholds: {injektion: 0.9}\n",
        5,
        "models.policy.thresholds.injektion: no validator is called injektion. Did you mean 'injection'? There is echo",
    ),
    "a required validator that nobody has": (
        "version: 1\nmodels:\n  policy:\n    required:\n    - empty\n    - grounded\n",
        6,
        "no validator is called grounded. There is echo, empty, entities, ids, injection",
    ),
    "a validator of a purpose that nobody has": (
        "version: 1\nmodels:\n  policy:\n    validators:\n      chat: [empty, numbrs]\n",
        5,
        "no validator is called numbrs. Did you mean 'numbers'?",
    ),
    "a shadow of the only version": (
        "version: 1\nmodels:\n  policy: {shadows: {extract: '1'}}\n",
        3,
        "has no version but '1', which so runs beside nothing",
    ),
    "the folder": ("version: 1\nfolder: /\n", 2, "folder: is the file's own"),
}


@pytest.mark.parametrize(("text", "line", "says"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_named_with_its_line(refusal, text, line, says):
    error = refusal(text, KEY="agents")
    assert says in error.detail
    assert error.ids["line"] == line
    assert f"hanse.yaml:{line}: " in error.detail


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(refusal):
    error = refusal("version: 1\nagents:\n- {clas: x}\nlimits: {queued_tasks: 0}\ngateway: {port: -1}\n")
    assert [text.split(":")[1] for text in error.ids["problems"]] == ["3", "4", "5"]
    assert error.detail.endswith("(and 2 more)")


def test_nested_aliases_do_not_fill_the_memory(refusal):
    bomb = "version: 1\na: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join(f'*{old}' for _ in range(10))}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "has more than" in refusal(bomb).detail


def test_the_file_is_found_upwards(tmp_path, monkeypatch):
    (tmp_path / "hanse.yaml").write_text("version: 1\nfederation: {name: above}\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert config.load().federation.name == "above"
    assert config.load().folder == tmp_path


def test_no_file_says_how_to_start(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    with pytest.raises(
        InvalidConfiguration, match=r"no hanse.yaml here or above. Start a project with: hanse new NAME"
    ):
        config.find(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InvalidConfiguration, match=r"nowhere.yaml cannot be read: No such file"):
        config.load(tmp_path / "nowhere.yaml")
    (tmp_path / "latin").write_bytes(b"version: 1 # caf\xe9")
    with pytest.raises(InvalidConfiguration, match="not UTF-8"):
        config.load(tmp_path / "latin")


class Ledger:
    """Stands for an agent's class."""


def test_python_gives_classes_instead_of_paths():
    made = Configuration.for_agents(
        [Ledger, "shop:Till"], data="/tmp/x", gateway={"port": 0}, federation={"name": "shop"}
    )
    assert made.agents[0].load() is Ledger
    assert made.agents[1].label == "Till"
    assert (made.data, made.federation.name, made.gateway.port) == (Path("/tmp/x"), "shop", 0)


def test_python_gives_secrets_as_secrets():
    made = Configuration.for_agents([], tenants=[{"name": "a", "token": SecretStr("canary")}])
    assert made.tenants[0].token is not None
    with pytest.raises(InvalidConfiguration, match=r"tenants\[0\].token: is a secret"):
        Configuration.for_agents([], tenants=[{"name": "a", "token": "canary"}])


def test_the_configuration_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Configuration().version = 1  # pyright: ignore[reportAttributeAccessIssue]


LOADING = {
    "hanse.runtime.config:Configuration": None,
    "nowhere.at.all:X": "there is no module 'nowhere'. Modules are looked for beside hanse.yaml",
    "hanse.runtime.config:Configurtion": "has no 'Configurtion'. Did you mean 'Configuration'?",
    "hanse.runtime.config:load": "is not a class",
}


@pytest.mark.parametrize(("path", "says"), LOADING.items())
def test_a_class_is_loaded_or_the_missing_half_is_named(path, says):
    if says is None:
        assert config.load_class(path) is Configuration
        return
    with pytest.raises(InvalidConfiguration) as caught:
        config.load_class(path)
    assert says in caught.value.detail


@pytest.mark.parametrize(
    ("section", "connector"),
    [
        (config.SmtpConnector, SmtpConnector.Options),
        (config.HttpConnector, HttpConnector.Options),
        (config.SqlConnector, SqlConnector.Options),
    ],
)
def test_a_connector_can_be_given_every_option_it_has(section, connector):
    """The same names with the same defaults: what the file may say is what the connector understands."""
    known = {name: option.default for name, option in section.model_fields.items() if name not in ("kind", "headers")}
    assert known == {name: option.default for name, option in connector.model_fields.items() if name != "headers"}


_ALL = {cls for cls in vars(config).values() if isinstance(cls, type) and issubclass(cls, config.Section)}


def _sections():
    return sorted(_ALL - {config.Section}, key=lambda cls: cls.__name__)


def _explained(section: type[config.Section]) -> Iterator[tuple[str, str]]:
    """Each option that stands in the class itself, with the text under it."""
    (cls,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(cls, ast.ClassDef)
    for one, other in pairwise(cls.body):
        if isinstance(one, ast.AnnAssign) and isinstance(other, ast.Expr) and isinstance(other.value, ast.Constant):
            yield ast.unparse(one.target), str(other.value.value)


@pytest.mark.parametrize("section", _sections(), ids=lambda cls: cls.__name__)
def test_every_option_is_explained_with_an_example(section):
    explained = {name: text for cls in section.__mro__ if cls in _ALL for name, text in _explained(cls)}
    silent = [name for name in section.model_fields if "Example: " not in explained.get(name, "")]
    assert not silent, f"write a docstring with an example under {section.__name__}.{silent}"
