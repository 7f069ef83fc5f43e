"""The benchmark, against a gateway that runs: it counts what it says it counts."""

from argparse import Namespace

from hanse.benchmarks import http
from hanse.runtime.federation import Federation

from .conftest import TOKEN, Server


async def test_every_request_of_the_benchmark_is_a_task_of_its_own(federation: Federation, server: Server):
    options = {"url": server.url, "token": TOKEN, "folder": ".", "requests": 40, "concurrency": [1, 4]}
    rows = await http.run(Namespace(**options, call="ledger.deposit", input='{"account": "a", "cents": 1}'))
    assert [(row["concurrency"], row["requests"], row["refused"]) for row in rows] == [(1, 40, 0), (4, 40, 0)]
    assert all(0 < row["ms_p50"] <= row["ms_p99"] for row in rows)
    assert len(await federation.client.tasks(limit=1000)) == http.WARM_UP + 80


async def test_what_is_refused_is_counted_as_refused(server: Server):
    options = {"url": server.url, "token": "wrong", "folder": ".", "requests": 10, "concurrency": [2]}
    (row,) = await http.run(Namespace(**options, call="ledger.deposit", input="{}"))
    assert row["refused"] == 10
