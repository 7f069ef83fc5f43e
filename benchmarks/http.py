"""Durable submissions over HTTP: `POST /v1/tasks` through Ray Serve and HAProxy, each on disk before it is answered.

The tasks are real: each is one call of an agent, which is negotiated and executed while the next ones are submitted.
The client is a few lines on a socket, because a comfortable one would be half of what is measured.
"""

import argparse
import asyncio
import json
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..runtime.federation import Federation
from .machine import percentile, show
from .steps import AGENTS, PAYLOAD

CALL = "north.put"
WARM_UP = 200
INPUT = {"number": 0, "payload": PAYLOAD}


class Connection:
    """One kept-alive HTTP/1.1 connection. When the server ends it, which it may at any time, it is opened again."""

    def __init__(self, host: str, port: int) -> None:
        self._place = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, head: bytes, body: bytes) -> int:
        """The status of the answer. The request carries an idempotency key, so it may be sent twice."""
        while True:
            reader, writer = self._streams or await self._open()
            try:
                writer.write(head + b"%d\r\n\r\n" % len(body) + body)
                answer = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_length(answer))
                return int(answer[9:12])
            except (asyncio.IncompleteReadError, ConnectionError):
                self.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._streams = await asyncio.open_connection(*self._place)
        return self._streams

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError("the answer has no Content-Length")


async def measure(url: str, token: str | None, body: bytes, requests: int, concurrency: int) -> dict[str, Any]:
    """Submits `requests` tasks over `concurrency` connections."""
    place, left, times, statuses = urlsplit(url), iter(range(requests)), list[float](), dict[int, int]()
    head = f"POST /v1/tasks HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {token}\r\n" if token else ""

    async def worker() -> None:
        connection = Connection(place.hostname or "", place.port or 80)
        for key in _keys(left):
            started = time.perf_counter()
            status = await connection.post(f"{head}Idempotency-Key: {key}\r\nContent-Length: ".encode(), body)
            times.append(time.perf_counter() - started)
            statuses[status] = statuses.get(status, 0) + 1
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    seconds = time.perf_counter() - started
    return {
        "concurrency": concurrency,
        "requests": requests,
        "per_second": requests / seconds,
        "ms_p50": percentile(times, 0.5) * 1000,
        "ms_p99": percentile(times, 0.99) * 1000,
        "refused": requests - statuses.get(202, 0) - statuses.get(200, 0),
    }


def _keys(left: Iterator[int]) -> Iterator[str]:
    return (uuid.uuid4().hex for _ in left)


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    async with AsyncExitStack() as stack:
        url = options.url or await _own(stack, options.folder)
        body = json.dumps({"call": options.call, "input": json.loads(options.input)}).encode()
        await measure(url, options.token, body, WARM_UP, 4)
        return [await measure(url, options.token, body, options.requests, each) for each in options.concurrency]


async def _own(stack: AsyncExitStack, folder: str) -> str:
    """A federation with a gateway on a free port."""
    place = Path(tempfile.mkdtemp(dir=folder))
    stack.callback(shutil.rmtree, place, ignore_errors=True)
    gateway = {"port": 0, "open_on_loopback": True}
    federation = await stack.enter_async_context(
        Federation.local(AGENTS, data=place / "data", http=True, gateway=gateway)
    )
    assert federation.url is not None
    return federation.url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concurrency", type=_numbers, default=[1, 16], help="such as 1,16")
    parser.add_argument("--requests", type=int, default=2000, help="per row")
    parser.add_argument("--url", help="of a running gateway; without it a federation is started for the measurement")
    parser.add_argument("--token", help="bearer token for --url")
    parser.add_argument("--call", default=CALL, help="capability that each task calls")
    parser.add_argument("--input", default=json.dumps(INPUT), help="its input, as JSON")
    parser.add_argument("--folder", default=".", help="where the stores lie; a real disk")
    show("http", asyncio.run(run(parser.parse_args())))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
