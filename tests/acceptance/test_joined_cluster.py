"""A federation that `hanse up --address` brings into a cluster which somebody began with `ray start`: a head, and a
node that joined it. Started and stopped as `cluster.yaml` does it, by the command line; in between it loses a node.

Two nodes on one machine are two sets of Ray's processes, each with an address of 127/8 and a home folder of its own.
The gateway is served at the head alone first, where none of the second node's processes listens, and then on every
node. There each has a proxy at the same port, which two nodes of one machine cannot have; so the second one's Ray is
told another (`RAY_SERVE_WORKER_PROXY_HTTP_PORT`). Nothing else differs from two machines, but for what lies between.

Fault F10; invariants I1, I2, I3, I7, I11, I13.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from ray._private.ray_constants import ENABLE_RAY_CLUSTERS_ENV_VAR

from hanse.runtime.gateway import proxy

from ..support.ports import free_port, listeners, processes_with
from ..support.tree import ROOT
from . import outside
from .test_two_nodes import HEALTH

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

NEAR, FAR = "127.0.1.3", "127.0.1.4"
MARK = "HANSE_TEST_NODE"
CONFIGURATION = """version: 1
federation: {name: joined, data: "~/bank"}
agents:
  - class: tests.acceptance.bank:Ledger
  - class: tests.acceptance.bank:Clerk
gateway: {host: 127.0.0.1, port: 0, open_on_loopback: true}
"""
EVERYWHERE = CONFIGURATION.replace("open_on_loopback", "nodes: every, open_on_loopback")
HEAD = ("--head", f"--node-ip-address={NEAR}", "--port=0", "--dashboard-host=127.0.0.1", "--include-dashboard=false")
CALLS = {
    "ledger": {"call": "ledger.deposit", "input": {"account": "a", "cents": 5}},
    "clerk": {"call": "clerk.post", "input": {"text": "noted", "seconds": 0.0}},
}


class Cluster:
    """Two nodes, and the commands that somebody types at the near one."""

    def __init__(self, folder: Path, sessions: str) -> None:
        self.near, self.far, self._sessions = folder / "near", folder / "far", sessions
        for home in (self.near, self.far):
            home.mkdir()
        self.configure(CONFIGURATION)
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._environment = {**os.environ, **HEALTH, **token, "PYTHONPATH": path, "COLUMNS": "200"}
        self._environment.pop(ENABLE_RAY_CLUSTERS_ENV_VAR, None)  # set where a cluster of one machine was started
        self._id = secrets.token_hex(8)
        self.address = ""
        self.far_url = f"http://127.0.0.1:{free_port()}"

    def configure(self, text: str) -> None:
        (self.near / "hanse.yaml").write_text(text)

    @property
    def data(self) -> Path:
        return self.near / "bank"

    def start_near(self) -> None:
        self._ray_start(self.near, *HEAD, f"--temp-dir={self._sessions}", **proxy.environment(self.data))
        gcs = next(name for name in self.processes(self.near).values() if "gcs_server" in name)
        session = gcs.partition("--session-dir=")[2].split()[0]
        self.address = f"{NEAR}:{next(Path(session).glob('gcs_server_port*')).read_text()}"

    def start_far(self) -> None:
        told = {"RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(_port(self.far_url)), **proxy.environment(self.far / "bank")}
        self._ray_start(self.far, f"--address={self.address}", f"--node-ip-address={FAR}", **told)

    def _ray_start(self, home: Path, *words: str, **environment: str) -> None:
        ports = ("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0")
        command = ("-m", "ray.scripts.scripts", "start", *words, *ports, "--num-cpus=8")
        try:
            self._run(home, *command, **environment)
        except AssertionError:  # on a busy machine its agents take longer than a raylet waits: runtime/lean_ray.py
            self.power_off(home)
            self._run(home, *command, **environment)

    def hanse(self, *words: str) -> Any:
        """What a command prints as JSON."""
        return json.loads(self._run(self.near, "-m", "hanse.runtime.cli", *words, "--json"))

    def _run(self, home: Path, *words: str, **environment: str) -> str:
        own = {"HOME": str(home), MARK: f"{self._id} {home.name}", "RAY_USAGE_STATS_ENABLED": "0"}
        done = subprocess.run(
            [sys.executable, *words],
            cwd=home,
            env={**self._environment, **own, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def processes(self, home: Path) -> dict[int, str]:
        return processes_with(MARK, f"{self._id} {home.name}")

    def power_off(self, home: Path) -> None:
        """Every process of the node at once."""
        for pid in self.processes(home):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    sessions = tempfile.mkdtemp(prefix="ray-")  # not below pytest's: sockets have short paths
    cluster = Cluster(tmp_path, sessions)
    try:
        yield cluster
    finally:
        for home in (cluster.near, cluster.far):
            cluster.power_off(home)
            proxy.discard(home / "bank")
        shutil.rmtree(sessions, ignore_errors=True)


def test_it_is_served_over_both_nodes_and_survives_the_second_one(cluster: Cluster) -> None:
    cluster.start_near()
    cluster.start_far()
    url = cluster.hanse("up", "--address", cluster.address)["url"]
    assert _port(url) in _ports(cluster, cluster.near, "haproxy")
    assert not _ports(cluster, cluster.far) & {_port(url), _port(cluster.far_url)}
    assert cluster.hanse("down")["stopped"] == "joined"

    cluster.configure(EVERYWHERE)
    url = cluster.hanse("up", "--address", cluster.address)["url"]
    with _client(url) as http, _client(cluster.far_url) as there:
        places = {agent["id"]: agent["pid"] for agent in http.get("/v1/agents").json()["agents"]}
        (stays,) = set(places) & {each for each, pid in places.items() if pid in cluster.processes(cluster.near)}
        (goes,) = set(places) & {each for each, pid in places.items() if pid in cluster.processes(cluster.far)}
        assert _port(url) in _ports(cluster, cluster.near, "haproxy")
        assert _ports(cluster, cluster.far, "haproxy") == {_port(cluster.far_url)}

        before = [_done(each, CALLS[agent]) for each in (http, there) for agent in (stays, goes)]
        cluster.power_off(cluster.far)
        with pytest.raises(httpx.TransportError):
            there.get("/healthz")
        during = _done(http, CALLS[stays])
        waiting = _submit(http, CALLS[goes], wait=0)
        _until(lambda: not _agents(http)[goes]["healthy"])
        assert not _task(http, waiting)["status"].startswith("fail")
        assert _agents(http)[stays]["healthy"]

        cluster.start_far()
        _until(lambda: _task(http, waiting)["status"] == "completed")
        assert _agents(http)[goes]["pid"] in cluster.processes(cluster.far)
        _until(lambda: _is_served(there))
        after = _done(there, CALLS[stays])
        states = {
            task: http.post(f"/v1/tasks/{task}:replay").json()["state"] for task in (*before, during, waiting, after)
        }
    assert cluster.hanse("down")["stopped"] == "joined"
    for each in (url, cluster.far_url):
        with pytest.raises(httpx.TransportError):
            httpx.get(each, trust_env=False)
    assert any("gcs_server" in name for name in cluster.processes(cluster.near).values()), "the cluster was not its own"
    told = outside.check_journal(cluster.data, states)
    outside.check_receipts(cluster.data, told, cluster.far / "bank")
    outside.check_states(cluster.data, states)


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, trust_env=False, timeout=60)


def _is_served(http: httpx.Client) -> bool:
    try:
        return http.get("/healthz").is_success
    except httpx.TransportError:
        return False


def _done(http: httpx.Client, body: dict[str, Any]) -> str:
    """The id of a task that has completed."""
    task = _submit(http, body, wait=60)
    assert _task(http, task)["status"] == "completed"
    return task


def _submit(http: httpx.Client, body: dict[str, Any], *, wait: int) -> str:
    answer = http.post(f"/v1/tasks?wait={wait}", json=body)
    assert answer.is_success, answer.text
    return answer.json()["id"]


def _task(http: httpx.Client, task: str) -> dict[str, Any]:
    return http.get(f"/v1/tasks/{task}").json()


def _agents(http: httpx.Client) -> dict[str, Any]:
    return {agent["id"]: agent for agent in http.get("/v1/agents").json()["agents"]}


def _port(url: str) -> int | None:
    return urlsplit(url).port


def _ports(cluster: Cluster, home: Path, program: str = "") -> set[int]:
    """On which its processes listen; those of one program, where it is said."""
    pids = [pid for pid, name in cluster.processes(home).items() if program in name]
    return {port for pid in pids for _, port in listeners(pid)}


def _until(true: Callable[[], bool], seconds: float = 90) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, "it did not come true"
        time.sleep(0.2)
