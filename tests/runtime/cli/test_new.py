"""`hanse new`: the project it writes is right, checks, and passes its own test."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from hanse.contracts import Plan
from hanse.runtime import config
from hanse.runtime.cli import new
from hanse.runtime.cli.app import app


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("new", "corner-shop").exit_code == 0
    return tmp_path / "corner-shop"


def test_it_writes_every_file_and_says_what_is_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("new", "shop")
    assert {path.name for path in (tmp_path / "shop").iterdir()} == set(new.FILES)
    assert "Now: cd shop && hanse contracts check && hanse up" in result.stdout
    assert json.loads(run("new", "other", "--json").stdout)["files"] == list(new.FILES)


def test_it_never_overwrites(project):
    (project / "agents.py").write_text("mine")
    result = run("new", "corner-shop")
    assert result.exit_code == 2
    assert "is there already. Choose another --folder" in result.stderr
    assert (project / "agents.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "../x", "a b", "1st", "x" * 64])
def test_a_name_that_is_none_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert run("new", name).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_is_valid_as_it_is(project):
    read = config.load(project / "hanse.yaml", {})
    assert (read.federation.name, read.gateway.port, read.data) == ("corner-shop", 8000, project / "var")
    assert config.load(project / "hanse.yaml", {"PORT": "8123"}).gateway.port == 8123


def test_the_commented_lines_are_valid_too(project):
    text = (project / "hanse.yaml").read_text().replace("# tenants:", "tenants:").replace("#   - {name", "  - {name")
    (project / "hanse.yaml").write_text(text)
    token = config.load(project / "hanse.yaml", {"HANSE_TOKEN": "t"}).tenants[0].token
    assert token is not None
    assert token.get_secret_value() == "t"


def test_the_plan_is_a_plan(project):
    assert len(Plan.parse(json.loads((project / "transfer.json").read_text())).steps) == 2


def test_the_readme_names_only_commands_that_exist(project):
    from .test_documented import commands

    known = set(commands())
    for line in (project / "README.md").read_text().splitlines():
        if line.startswith("hanse "):
            words = line.split()
            assert " ".join(words[:2]) in known or " ".join(words[:3]) in known, line


def test_its_contracts_hold(project):
    checked = python(project, "-m", "hanse.runtime.cli", "contracts", "check", "--json")
    assert checked.returncode == 0, checked.stderr
    found = json.loads(checked.stdout)
    assert found["ok"]
    assert [each["name"] for each in found["agents"]["ledger"]] == [
        "ledger.balance",
        "ledger.deposit",
        "ledger.withdraw",
    ]
    assert found["findings"] == []


def test_its_own_test_passes(project):
    tested = python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert tested.returncode == 0, tested.stdout
    assert "2 passed" in tested.stdout


def python(folder, *arguments: str):
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
