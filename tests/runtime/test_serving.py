"""The process behind `hanse up`: what it is told, and that its owner can always come in."""

import json
import os
import subprocess
import sys

import pytest
from pydantic import SecretStr, ValidationError

from hanse.runtime.config import Configuration
from hanse.runtime.serving import Order, _reachable


def token(configuration: Configuration) -> str | None:
    first = configuration.tenants[0].token
    return first.get_secret_value() if first else None


def test_an_open_gateway_needs_no_token(tmp_path):
    configuration = Configuration.for_agents([], data=tmp_path, gateway={"open_on_loopback": True})
    assert _reachable(configuration) is configuration
    assert list(tmp_path.iterdir()) == []


def test_a_configured_token_is_kept_for_commands_on_this_machine(tmp_path):
    tenants = [{"name": "default", "token": SecretStr("given")}]
    assert token(_reachable(Configuration.for_agents([], data=tmp_path, tenants=tenants))) == "given"
    assert (tmp_path / "run" / "token").read_text() == "given\n"


def test_where_nobody_could_come_in_a_token_is_made_and_stays(tmp_path):
    configuration = Configuration.for_agents([], data=tmp_path)
    made = token(_reachable(configuration))
    assert made is not None
    assert len(made) > 30
    assert token(_reachable(configuration)) == made
    assert (tmp_path / "run" / "token").stat().st_mode & 0o777 == 0o600


def test_an_order_says_another_data_folder(tmp_path):
    (tmp_path / "hanse.yaml").write_text("version: 1\n")
    order = Order(config=tmp_path / "hanse.yaml", data=tmp_path / "other")
    assert order.configuration().data == tmp_path / "other"
    with pytest.raises(ValidationError):
        Order.model_validate({"config": "x", "colour": "blue"})


def test_what_libraries_print_does_not_mix_with_what_it_says(tmp_path):
    (tmp_path / "noisy.py").write_text("print('hello from a library')\nraise RuntimeError('it is broken')\n")
    (tmp_path / "hanse.yaml").write_text("version: 1\nagents: [{class: 'noisy:Agent'}]\n")
    order = json.dumps({"config": str(tmp_path / "hanse.yaml")})
    ended = subprocess.run(
        [sys.executable, "-m", "hanse.runtime.serving", order],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=60,
    )
    assert ended.returncode == 1
    said = json.loads(ended.stdout)
    assert said["error"]["code"] == "invalid_configuration"
    assert "noisy breaks while it loads: RuntimeError: it is broken" in said["error"]["detail"]
    assert "hello from a library" in ended.stderr
