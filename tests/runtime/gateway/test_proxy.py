"""What Ray's HAProxy is allowed to open. The configurations are made by Ray itself, and read by HAProxy itself."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanse.contracts import InvalidConfiguration
from hanse.runtime.gateway import closed_haproxy, proxy

from ...support.ports import free_port, listeners

CONFIGURATION = """global
    log 127.0.0.1:514 local0 info
    stats socket {folder}/admin.sock mode 666 level admin expose-fd listeners
    maxconn 100
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
    log global
    option httplog
    errorfile 503 /somewhere/500.http
frontend prometheus
    bind :{metrics}
    mode http
    http-request use-service prometheus-exporter if {{ path /metrics }}
    no log
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend default_backend
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path '%[path]' not found."
listen stats
  bind *:{stats}
  stats enable
  stats uri /stats
"""
"""The outline of what Ray 2.60 writes."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the proxy of this test lives; short, because sockets are in it."""
    environment = proxy.environment(tmp_path)
    yield Path(environment["RAY_SERVE_HAPROXY_BINARY_PATH"]).parent
    proxy.discard(tmp_path)


def written(folder: Path) -> tuple[Path, int]:
    """A configuration as Ray writes it, and the gateway's port in it."""
    port = free_port()
    path = folder / "haproxy.cfg"
    path.write_text(CONFIGURATION.format(folder=folder, port=port, metrics=free_port(), stats=free_port()))
    return path, port


def test_only_the_gateways_port_is_opened_and_the_proxy_answers_in_our_shape(folder: Path):
    path, port = written(folder)
    with subprocess.Popen([folder / "haproxy", "-db", "-f", path]) as running:
        try:
            answer = _asked(port)
            assert listeners(running.pid) == {("127.0.0.1", port)}
            assert (folder / "admin.sock").stat().st_mode & 0o777 == 0o600
        finally:
            running.terminate()
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"application/problem+json" in answer
    assert b"retry-after: 1" in answer.lower()
    assert b'"type":"urn:hanse:error:unavailable"' in answer


def _asked(port: int) -> bytes:
    """The answer of a proxy that is coming up."""
    until = time.monotonic() + 10
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                return connection.makefile("rb").read()
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


def test_a_proxy_does_not_outlive_whoever_started_it(folder: Path):
    path, port = written(folder)
    command = [str(folder / "haproxy"), "-db", "-f", str(path)]
    start = f"import subprocess, time; subprocess.Popen({command!r}); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", start]) as parent:
        _asked(port)
        os.kill(parent.pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
    pytest.fail("the proxy still answers")


@pytest.mark.parametrize(
    "extra",
    [
        "listen more\n  bind *:9999\n",
        "frontend grpc_frontend\n    bind *:9000 proto h2\n",
        "global\n    stats socket /tmp/other.sock mode 666\n",
        "frontend other\n    bind 0.0.0.0:1 # more\n",
    ],
)
def test_a_configuration_that_opens_more_is_refused(folder: Path, extra: str):
    path, _ = written(folder)
    path.write_text(path.read_text() + extra)
    done = subprocess.run([folder / "haproxy", "-db", "-f", path], capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "HAProxy is not started" in done.stderr


def test_a_configuration_without_the_gateway_is_refused():
    with pytest.raises(closed_haproxy.Refused, match="one listener"):
        closed_haproxy.closed("global\n    maxconn 1\n", Path("/nowhere"))


def test_closing_what_is_closed_changes_nothing(folder: Path):
    path, _ = written(folder)
    once = closed_haproxy.closed(path.read_text(), folder)
    assert closed_haproxy.closed(once, folder).count("bind ") == 1


def test_the_folder_is_made_once_is_this_users_alone_and_goes_again(tmp_path: Path):
    environment = proxy.environment(tmp_path)
    folder = Path(environment["RAY_SERVE_HAPROXY_BINARY_PATH"]).parent
    assert proxy.environment(tmp_path) == environment
    assert folder.stat().st_mode & 0o077 == 0
    assert len(environment["RAY_SERVE_HAPROXY_SOCKET_PATH"]) + 57 <= 97
    proxy.discard(tmp_path)
    assert not folder.exists()


def test_a_folder_that_others_may_enter_is_not_used(folder: Path, tmp_path: Path):
    folder.chmod(0o755)
    with pytest.raises(InvalidConfiguration, match="this user alone"):
        proxy.environment(tmp_path)


def test_two_federations_have_two_folders(tmp_path: Path):
    made = {proxy.environment(tmp_path / name)["RAY_SERVE_HAPROXY_BINARY_PATH"] for name in "ab"}
    for name in "ab":
        proxy.discard(tmp_path / name)
    assert len(made) == 2


def test_the_head_of_a_cluster_can_export_it(tmp_path: Path):
    command = [sys.executable, "-m", "hanse.runtime.gateway.proxy", str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert set(told.splitlines()) == {f"export {name}={value}" for name, value in proxy.environment(tmp_path).items()}
    proxy.discard(tmp_path)
