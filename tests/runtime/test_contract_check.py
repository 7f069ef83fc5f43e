"""The contracts of a whole configuration, checked before anything is started."""

import sys
import textwrap

import pytest

from hanse.runtime.config import Configuration
from hanse.runtime.contract_check import Finding, check

MODELS = """
from pydantic import BaseModel
from hanse import Agent, Context, capability

class Pay(BaseModel):
    account: str
    cents: int

class Paid(BaseModel):
    receipt: str

class Refund(BaseModel):
    receipt: str
    reason: str = ""

class Strict(BaseModel):
    receipt: str
    reason: str
"""


@pytest.fixture
def findings(tmp_path, monkeypatch):
    """Findings about the classes of a module, each an agent, in the order given."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def find(source: str, *names: str, **sections) -> list[Finding]:
        (tmp_path / "shop_under_test.py").write_text(MODELS + textwrap.dedent(source))
        sys.modules.pop("shop_under_test", None)
        entries = [{"class": f"shop_under_test:{name}", "name": name} for name in names]
        return check(Configuration.checked({"agents": entries, **sections}))[1]

    return find


PAYING = """
class Till(Agent):
    domain = "till"
    @capability(effect="reversible", compensation="{undo}", compensation_input={template})
    async def pay(self, request: Pay) -> Paid:
        "Take money."

class Bank(Agent):
    domain = "bank"
    @capability(effect="irreversible")
    async def refund(self, request: {needs}) -> Paid:
        "Give money back."
"""


def paying(
    undo: str = "bank.refund", template: str = "{'receipt': {'$from': 'output.receipt'}}", needs: str = "Refund"
):
    return PAYING.format(undo=undo, template=template, needs=needs)


def test_a_compensation_of_another_agent_that_can_be_bound_is_fine(findings):
    assert findings(paying(), "Till", "Bank") == []


def test_a_compensation_that_nobody_offers_is_an_error(findings):
    (found,) = findings(paying(), "Till")
    assert (found.severity, found.about) == ("error", "till.pay@1.0")
    assert "bank.refund is offered by no agent of this configuration. Add the agent" in found.detail


def test_a_misspelt_compensation_names_the_near_one(findings):
    (found,) = findings(paying(undo="bank.refnd"), "Till", "Bank")
    assert found.detail.endswith("Did you mean bank.refund?")


def test_what_a_compensation_needs_and_does_not_get_is_said_with_what_to_write(findings):
    (found,) = findings(paying(template="{}"), "Till", "Bank")
    assert found.detail == (
        "its compensation bank.refund needs 'receipt'. "
        'Write: compensation_input={"receipt": {"$from": "output.receipt"}}'
    )


def test_what_comes_from_nowhere_is_left_open(findings):
    (found,) = findings(paying(needs="Strict"), "Till", "Bank")
    assert 'needs \'reason\'. Write: compensation_input={"reason": {"$from": "output.…"}}' in found.detail


def test_what_a_compensation_does_not_take_is_said(findings):
    template = "{'receipt': {'$from': 'output.receipt'}, 'cents': 5}"
    (found,) = findings(paying(template=template), "Till", "Bank")
    assert found.detail == "its compensation bank.refund takes no 'cents'. It takes receipt, reason"


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("output.recipt", "its output has no 'recipt'. It has receipt"),
        ("input.money", "its input has no 'money'. It has account, cents"),
        ("step.receipt", "Refer to input.… or output.…"),
    ],
)
def test_a_reference_that_leads_nowhere_is_said(findings, reference, says):
    (found,) = findings(paying(template=f"{{'receipt': {{'$from': '{reference}'}}}}"), "Till", "Bank")
    assert says in found.detail


def test_an_agent_that_cannot_be_loaded_does_not_hide_the_others(findings):
    found = findings(paying() + "\nclass Thing: pass\n", "Till", "Bank", "Bnak", "Thing")
    assert [each.about for each in found] == ["Bnak", "Thing"]
    assert "Did you mean 'Bank'?" in found[0].detail
    assert "is not an agent. Write: class Thing(Agent): …" in found[1].detail


def test_a_contract_that_is_broken_in_itself_is_an_error(findings):
    (found,) = findings(
        """
        class Till(Agent):
            domain = "till"
            @capability()
            async def look(self, request: Pay) -> Paid: ...
        """,
        "Till",
    )
    assert "has no docstring" in found.detail


def test_a_module_that_breaks_while_it_loads_is_an_error(findings):
    (found,) = findings("1 / 0", "Till")
    assert "shop_under_test breaks while it loads: ZeroDivisionError: division by zero" in found.detail


TWO = """
class North(Agent):
    domain = "carriers"
    @capability(effect="{first}")
    async def ship(self, request: {input}) -> Paid:
        "Ship."

class South(Agent):
    domain = "carriers"
    @capability(effect="irreversible")
    async def ship(self, request: Pay) -> Paid:
        "Ship."
"""


def test_two_agents_of_one_name_are_an_error(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "shop_of_two.py").write_text(MODELS + TWO.format(first="irreversible", input="Pay"))
    found = check(Configuration.for_agents(["shop_of_two:North", "shop_of_two:South"]))[1]
    assert [(each.severity, each.about) for each in found] == [("error", "carriers")]
    assert "Give each its own: name: …" in found[0].detail


@pytest.mark.parametrize(
    ("first", "input", "says"),
    [("read", "Pay", "differ in effect"), ("irreversible", "Refund", "take different inputs")],
)
def test_providers_that_are_not_interchangeable_are_a_warning(findings, first, input, says):
    (found,) = findings(TWO.format(first=first, input=input), "North", "South")
    assert found.severity == "warning"
    assert says in found.detail


def test_a_rule_that_fits_nothing_is_a_warning(findings):
    (found,) = findings(paying(), "Till", "Bank", approvals=[{"capability": "bank.refnd"}])
    assert (found.severity, found.about) == ("warning", "approvals[0]")
    assert "nobody is ever asked. Did you mean bank.refund?" in found.detail


def test_a_rule_about_an_amount_that_is_not_there_is_a_warning(findings):
    rule = {"capability": "till.*", "above": {"field": "amount", "limit": 5}}
    (found,) = findings(paying(), "Till", "Bank", approvals=[rule])
    assert found.detail == "till.pay takes no 'amount', so a person is always asked. It takes account, cents"
