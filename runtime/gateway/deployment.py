"""The gateway on Ray Serve: one application, some replicas, HAProxy in front of them.

`proxy.environment` must be in the environment before Ray starts and before this module is imported: Serve reads its
settings when it is imported, here and in every process of the cluster.

The one seam to the cluster is `Connect`, a function without arguments that gives a replica its client. It is sent to
the replica by Ray, so it is a function of a module, or a `functools.partial` of one over plain values:

    serve_gateway(settings, partial(actors.connect, namespace, shards, "", "gateway"), port=8000)
"""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Protocol

import httpx
import ray
from fastapi import FastAPI
from ray import serve
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, ProxyStatus

from ...contracts import Conflict, Tenant, TimedOut, Unavailable
from ...models.serve_deployer import application_name
from ..client import Client
from ..loopback import stay_on_loopback
from ..world import crash_points
from .app import create_app
from .settings import Settings, is_loopback

APPLICATION = "hanse"
READY_SECONDS = 60.0
LOOK_SECONDS = 1.0
"""Between two looks at whether the gateway that is to come up has failed to."""
KEEP_ALIVE_SECONDS = 75
HEALTH_SECONDS = 5.0
"""Between two looks at whether a replica still answers."""
MARGIN = 256
"""Requests that a replica takes beyond what the gateway lets in: the ones it sends away, each with a reason."""


AT_THE_HEAD = {"node:__internal_head__": 0.001}
"""Replicas live where a proxy does: a gateway on loopback can be reached from nowhere else."""
REPLICA = {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0", "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0"}
"""Serve runs user code in its own thread, in case it blocks. This does not, and so answers a third more requests."""


class Acting(Client, Protocol):
    """A client that can act for any tenant."""

    def acting(self, tenant: Tenant, by: str) -> Client: ...


Connect = Callable[[], Acting]


class _Replica:
    """One process that serves. Ray Serve makes it and asks it for its application."""

    def __init__(self, settings: Settings, connect: Connect) -> None:
        self._settings = settings
        self._connect = connect
        if is_loopback(settings.host):
            stay_on_loopback()

    def __serve_build_asgi_app__(self) -> FastAPI:
        client = self._connect()
        return create_app(client.acting, self._settings, lifespan=_closing(client))


def _closing(client: Client) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await client.close()

    return lifespan


def deployment(settings: Settings, connect: Connect, replicas: int = 1, nodes: int = 0) -> serve.Application:
    """The Serve application, with so many replicas at the head, or on each of so many `nodes`. Settings that Serve has
    too stand above the gateway's own, which answer more clearly.
    """
    inside = settings.in_flight + settings.waiting + MARGIN
    spread: dict[str, Any] = {"max_replicas_per_node": replicas} if nodes else {}
    replica = serve.deployment(
        name="gateway",
        num_replicas=replicas * (nodes or 1),
        ray_actor_options={
            "num_cpus": 0,
            "resources": {} if nodes else AT_THE_HEAD,
            "runtime_env": {"env_vars": REPLICA | crash_points()},
        },
        logging_config={"enable_access_log": False},
        max_ongoing_requests=inside,
        max_queued_requests=inside,
        health_check_period_s=HEALTH_SECONDS,
        health_check_timeout_s=6 * HEALTH_SECONDS,
        graceful_shutdown_timeout_s=5,
        **spread,
    )(serve.ingress()(_Replica))
    return replica.bind(settings, connect)


async def serve_gateway(
    settings: Settings,
    connect: Connect,
    *,
    port: int,
    replicas: int = 1,
    everywhere: bool = False,
    name: str = APPLICATION,
    begun: Callable[[], None] = lambda: None,
) -> str:
    """Starts the gateway in the Ray cluster of this process and returns its URL when it answers.

    It is served at the head, or `everywhere`: at the same port of each node that is there now, with so many `replicas`
    each. `name` is that of the Serve application; one that is there under this name already is replaced. Port 0 takes a
    free one. `begun` is called when the first of its processes has been asked for. Raises Conflict when the port is
    taken or another gateway is in this cluster, TimedOut when the gateway does not come up, Unavailable when it cannot.
    """
    chosen = await asyncio.to_thread(_free_port, settings.host, port)
    nodes = await asyncio.to_thread(_living_nodes) if everywhere else {}
    location = ProxyLocation.EveryNode if everywhere else ProxyLocation.HeadOnly
    options = HTTPOptions(
        host=settings.host, port=chosen, keep_alive_timeout_s=KEEP_ALIVE_SECONDS, request_timeout_s=None
    )
    start = partial(serve.start, proxy_location=location, http_options=options)
    await _run(name, deployment(settings, connect, replicas, len(nodes)), start, begun)
    url = f"http://{_reachable(settings.host)}:{chosen}"
    await _answers(url, name, nodes)
    return url


async def stop_gateway(*, name: str = APPLICATION, end_serve: bool = True) -> None:
    """Ends the gateway; requests under way are answered first. Does nothing when there is none.

    `end_serve` ends Serve with it, when nothing else is on it. A cluster that ends as a whole needs no such thing.
    """
    await asyncio.to_thread(_stop, name, end_serve)


async def start_serve() -> None:
    """Serve without HTTP, for tiers of a federation that has no gateway. One that is there already stays as it is."""
    await asyncio.to_thread(partial(serve.start, proxy_location=ProxyLocation.Disabled))


async def end_serve(*, name: str = APPLICATION, seconds: float = READY_SECONDS) -> None:
    """Ends Serve when nothing of anybody else is on it, and what is left of this federation is gone or overdue."""
    await asyncio.to_thread(_end, name, seconds)


def _living_nodes() -> dict[str, str]:
    """The address of each, by its id."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


async def _run(name: str, application: serve.Application, start: Callable[[], None], begun: Callable[[], None]) -> None:
    """Makes Serve and the application in it side by side: neither the proxy nor the replica needs the other to start.

    A Serve that a killed process has left behind is ended first: its port could not be changed.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    await asyncio.to_thread(_make_way, name)
    starting = asyncio.create_task(asyncio.to_thread(start))
    while not starting.done() and not await asyncio.to_thread(_has_begun):  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.01)
    begun()
    await asyncio.gather(starting, asyncio.to_thread(_deploy, name, application))


def _make_way(name: str) -> None:
    if all(_is_of(name, each) for each in serve.status().applications):
        serve.shutdown()


def _is_of(name: str, application: str) -> bool:
    """Whether an application is this gateway, or a tier of the same federation."""
    return application == name or application.startswith(application_name(name, ""))


def _has_begun() -> bool:
    """Whether Serve's controller can be told something, which it then does when it is up."""
    try:
        ray.get_actor(SERVE_CONTROLLER_NAME, SERVE_NAMESPACE)
    except ValueError:
        return False
    return True


def _deploy(name: str, application: serve.Application) -> None:
    """Returns when Serve has taken it on."""
    target = serve.RunTarget(application, name=name, route_prefix="/")
    try:
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    except RayServeException as error:
        raise Conflict(f"the gateway cannot be put into this cluster: {error}", application=name) from error


def _stop(name: str, end_serve: bool) -> None:
    if name in serve.status().applications:
        serve.delete(name, _blocking=False)  # waiting, it would look once a second
        give_up = time.monotonic() + READY_SECONDS
        while name in serve.status().applications and time.monotonic() < give_up:
            time.sleep(0.05)
    if end_serve and not serve.status().applications:
        serve.shutdown()


def _end(name: str, seconds: float) -> None:
    give_up = time.monotonic() + seconds
    while any(_is_of(name, each) for each in serve.status().applications) and time.monotonic() < give_up:
        time.sleep(0.05)
    if all(_is_of(name, each) for each in serve.status().applications):
        serve.shutdown()


def _free_port(host: str, port: int) -> int:
    """The port itself when nobody has it. Raises Conflict."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Conflict(f"{host}:{port} is taken. Write another port, or 0 for a free one", port=port) from error
        return probe.getsockname()[1]


def _reachable(host: str) -> str:
    """An address under which this machine reaches a listener on `host`."""
    if host in ("0.0.0.0", ""):
        return "127.0.0.1"
    return f"[{'::1' if host == '::' else host}]" if ":" in host else host


async def _answers(url: str, name: str, nodes: Mapping[str, str]) -> None:
    """Returns when requests get through the proxy to a replica, whatever the replica says of the coordinator, and each
    of `nodes`, addresses by id, has its proxy.
    """
    failing = asyncio.create_task(_fails(name))
    try:
        async with asyncio.timeout(READY_SECONDS), httpx.AsyncClient(trust_env=False) as http:
            await _comes_true(lambda: _is_ours(http, f"{url}/openapi.json"), failing)
            await _comes_true(lambda: asyncio.to_thread(_has_proxies, nodes), failing)
    except TimeoutError:
        where = f"{url}, or on another of {', '.join(sorted(nodes.values()))}," if nodes else url
        raise TimedOut(f"the gateway at {where} did not come up within {READY_SECONDS:g} s") from None
    finally:
        failing.cancel()


async def _comes_true(look: Callable[[], Awaitable[bool]], failing: asyncio.Task[None]) -> None:
    while not await look():
        if failing.done():
            failing.result()
        await asyncio.sleep(0.05)


def _has_proxies(nodes: Collection[str]) -> bool:
    if not nodes:
        return True
    there = serve.status().proxies
    return all(there.get(node) == ProxyStatus.HEALTHY for node in nodes)


async def _fails(name: str) -> None:
    """Raises Unavailable when Serve has given up on the application."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        found = (await asyncio.to_thread(serve.status)).applications.get(name)
        if found and found.status == ApplicationStatus.DEPLOY_FAILED:
            raise Unavailable(f"the gateway cannot start: {found.message}", application=name)


async def _is_ours(http: httpx.AsyncClient, url: str) -> bool:
    try:
        answer: Any = await http.get(url)
    except httpx.TransportError:
        return False
    return answer.status_code == 200
