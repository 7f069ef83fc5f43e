"""Heads: what is signed, where they are kept, and what is read back from there."""

import asyncio
import json
import os
import socket
import threading
from collections.abc import AsyncIterator
from io import FileIO
from pathlib import Path
from typing import Any

import httpx
import pytest

from hanse.contracts import InvalidInput, StorageError, Unavailable
from hanse.runtime.audit import SignedHead, Signer, anchors
from hanse.runtime.audit.anchors import FileAnchor, SyslogAnchor, line_of, read_anchors
from hanse.runtime.audit.head import read_key
from hanse.runtime.audit.http_anchor import HttpAnchor

ROOT_KEY = bytes(range(32))
SIGNER = Signer("retail", ROOT_KEY)
NOW = 1_800_000_000_123


def head(sequence: int = 7, journal: str = "coordinator-0", signer: Signer = SIGNER) -> SignedHead:
    return signer.sign(journal, sequence, bytes([sequence % 256]) * 32, b"r" * 32, NOW)


def test_what_is_signed_is_always_the_same():
    """Keys and signatures that were handed out must stay good: Ed25519 of the text that the module describes."""
    assert SIGNER.public.hex() == "26a837a1a270b86f9c49e1a5ba5fe7d2bf40beedc23e9d08dc9e8a1ec8f9cb8e"
    assert head().signature.hex() == (
        "1221dc822063e788f77d61888bb0e536e084c3c788456b1941183b474fe92e54"
        "e7a9584b4e36be5e882485c634184d2ba856f2f9af86fe921847e49782836e0a"
    )


def test_only_the_holder_of_the_key_signs():
    assert head().is_signed_by(SIGNER.public)
    assert not head().is_signed_by(Signer("retail", bytes(32)).public)
    assert not head().is_signed_by(b"short")


@pytest.mark.parametrize("field", ["federation", "journal", "sequence", "hash", "root", "at"])
def test_every_field_is_signed(field: str):
    data = head().to_data()
    other: dict[str, Any] = {
        "federation": "x",
        "journal": "x",
        "sequence": 8,
        "hash": "00" * 32,
        "root": "00" * 32,
        "at": "2030-01-01T00:00:00.000Z",
    }
    assert not SignedHead.from_data(data | {field: other[field]}).is_signed_by(SIGNER.public)


def test_a_head_survives_its_data():
    assert SignedHead.from_data(json.loads(json.dumps(head().to_data()))) == head()


@pytest.mark.parametrize(
    "change", [{"hash": "00"}, {"hash": "zz"}, {"sequence": "x"}, {"at": "now"}, {"key": None}, {"journal": "a\nb"}]
)
def test_what_is_no_head_is_refused(change: dict[str, Any]):
    with pytest.raises(InvalidInput, match="no signed head"):
        SignedHead.from_data(head().to_data() | change)
    with pytest.raises(InvalidInput, match="no signed head"):
        SignedHead.from_data({})


def test_a_key_is_given_as_text_or_as_a_file(tmp_path: Path):
    file = tmp_path / "key"
    file.write_text(SIGNER.public.hex() + "\n")
    assert read_key(str(file)) == read_key(SIGNER.public.hex()) == SIGNER.public
    file.write_text("abc")
    for text in (str(file), "nowhere", ""):
        with pytest.raises(InvalidInput, match="hanse audit key"):
            read_key(text)


@pytest.fixture
async def anchor(tmp_path: Path) -> AsyncIterator[FileAnchor]:
    anchor = FileAnchor(tmp_path / "heads")
    yield anchor
    await anchor.close()


def sequences(file: Path) -> list[int]:
    kept = read_anchors([file], own=SIGNER.public)
    assert kept.problems == []
    return [each.sequence for each in kept.heads]


class Full(FileIO):
    """Of a disk with room for half a line."""

    def write(self, line: Any) -> int:
        return super().write(line[: len(line) // 2])


class Slow(FileIO):
    """Writes when it is told to."""

    begun: threading.Event
    may_go_on: threading.Event

    def write(self, line: Any) -> int:
        self.begun.set()
        self.may_go_on.wait()
        return super().write(line)


class TestFile:
    async def test_heads_are_appended_and_read_back(self, anchor: FileAnchor):
        assert await anchor.last("coordinator-0") is None
        for number in (1, 2, 3):
            await anchor.keep(head(number))
            await anchor.keep(head(number, "coordinator-1"))
        assert await anchor.last("coordinator-0") == head(3)
        assert await anchor.last("coordinator-2") is None
        assert sequences(anchor.path) == [1, 1, 2, 2, 3, 3]

    async def test_a_line_that_broke_off_is_passed_over_and_the_next_one_is_whole(self, anchor: FileAnchor):
        await anchor.keep(head(1))
        anchor.path.write_bytes(anchor.path.read_bytes() + line_of(head(2))[:50])
        assert await anchor.last("coordinator-0") == head(1)
        await anchor.keep(head(3))
        assert sequences(anchor.path) == [1, 3]

    async def test_a_file_that_was_moved_away_keeps_its_heads_and_the_next_goes_to_a_new_one(self, anchor: FileAnchor):
        await anchor.keep(head(1))
        away = anchor.path.rename(anchor.path.with_name("away"))
        await anchor.keep(head(2))
        anchor.path.unlink()
        await anchor.keep(head(3))
        assert (sequences(away), sequences(anchor.path)) == ([1], [3])

    async def test_a_head_is_on_disk_when_it_is_kept(self, anchor: FileAnchor):
        await anchor.keep(head(1))
        (opened,) = [each for each in Path("/proc/self/fd").iterdir() if each.exists() and each.samefile(anchor.path)]
        flags = Path("/proc/self/fdinfo", opened.name).read_text().split("flags:")[1].split()[0]
        assert int(flags, 8) & os.O_DSYNC
        assert int(flags, 8) & os.O_APPEND

    async def test_a_disk_that_takes_a_part_of_a_line_has_not_kept_it(
        self, anchor: FileAnchor, monkeypatch: pytest.MonkeyPatch
    ):
        await anchor.keep(head(1))
        monkeypatch.setattr(anchors, "FileIO", Full)
        await anchor.close()  # so that it is opened again
        with pytest.raises(StorageError, match="only a part"):
            await anchor.keep(head(2))
        monkeypatch.undo()
        await anchor.keep(head(3))
        assert sequences(anchor.path) == [1, 3]

    async def test_what_is_closed_while_it_writes_is_closed_behind_it(
        self, anchor: FileAnchor, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(anchors, "FileIO", Slow)
        Slow.begun, Slow.may_go_on = threading.Event(), threading.Event()
        keeping = asyncio.create_task(anchor.keep(head(1)))
        await asyncio.to_thread(Slow.begun.wait)
        await anchor.close()
        Slow.may_go_on.set()
        await keeping
        assert sequences(anchor.path) == [1]
        assert not [each for each in Path("/proc/self/fd").iterdir() if each.exists() and each.samefile(anchor.path)]

    async def test_a_folder_that_is_not_there_is_an_error(self, tmp_path: Path):
        with pytest.raises(StorageError, match="No such file"):
            await FileAnchor(tmp_path / "away" / "heads").keep(head())

    async def test_a_head_that_somebody_changed_is_a_problem(self, tmp_path: Path):
        file = tmp_path / "heads"
        file.write_text(json.dumps(head().to_data() | {"sequence": 8}) + "\n{}\nnothing\n")
        assert read_anchors([file]).problems == [
            f"{file}:1: the signature is not that of the head",
            f"{file}:2 is no head",
        ]

    async def test_a_head_of_another_key_is_a_problem_unless_a_key_is_asked_for(self, tmp_path: Path):
        file, other = tmp_path / "heads", Signer("retail", bytes(32))
        file.write_bytes(line_of(head(1)) + line_of(head(2, signer=other)))
        assert "begun anew on purpose" in read_anchors([file], own=SIGNER.public).problems[0]
        for signer, sequence in ((SIGNER, 1), (other, 2)):
            kept = read_anchors([file], signer.public)
            assert ([each.sequence for each in kept.heads], kept.problems) == ([sequence], [])
        assert "holds no head" in read_anchors([file], b"\x01" * 32).problems[0]

    def test_a_file_that_cannot_be_read_is_said(self, tmp_path: Path):
        with pytest.raises(InvalidInput, match="cannot be read"):
            read_anchors([tmp_path / "heads"])


class TestSyslog:
    async def test_a_datagram_carries_the_head(self, tmp_path: Path):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
            collector.bind(("127.0.0.1", 0))
            collector.settimeout(5)
            await SyslogAnchor("127.0.0.1", collector.getsockname()[1], tcp=False).keep(head())
            received = await asyncio.to_thread(collector.recv, 65536)
        assert received.startswith(b"<109>1 2027-01-15T08:00:00.123Z ")
        file = tmp_path / "syslog"
        file.write_bytes(received + b"\n")
        assert read_anchors([file]).heads == [head()]

    async def test_a_stream_carries_it_with_its_length(self):
        received = asyncio.get_running_loop().create_future()

        async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.set_result(await reader.read())
            writer.close()

        async with await asyncio.start_server(collect, "127.0.0.1", 0) as server:
            await SyslogAnchor("127.0.0.1", server.sockets[0].getsockname()[1], tcp=True).keep(head())
            length, _, frame = (await received).partition(b" ")
        assert int(length) == len(frame)
        assert frame.startswith(b"<109>1 ")

    async def test_a_collector_that_is_away_is_an_error(self):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
        with pytest.raises(Unavailable, match=f"syslog 127.0.0.1:{port}/tcp"):
            await SyslogAnchor("127.0.0.1", port, tcp=True).keep(head())


class TestHttp:
    @staticmethod
    def anchor(answer: Any) -> HttpAnchor:
        made = HttpAnchor("https://witness.example.com/heads?key=hidden", "secret")
        made._http = httpx.AsyncClient(headers=made._http.headers, transport=httpx.MockTransport(answer))
        return made

    async def test_a_head_is_posted_with_the_token(self):
        seen: list[httpx.Request] = []

        def answer(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return httpx.Response(201)

        anchor = self.anchor(answer)
        await anchor.keep(head())
        await anchor.close()
        assert SignedHead.from_data(json.loads(seen[0].content)) == head()
        assert seen[0].headers["authorization"] == "Bearer secret"
        assert anchor.name == "http witness.example.com", "nothing secret"

    @pytest.mark.parametrize("status", [302, 403, 503])
    async def test_any_other_answer_is_an_error(self, status: int):
        anchor = self.anchor(lambda request: httpx.Response(status, headers={"location": "https://elsewhere"}))
        with pytest.raises(Unavailable, match=str(status)):
            await anchor.keep(head())
        await anchor.close()

    async def test_silence_is_an_error(self):
        def answer(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectTimeout("no")

        anchor = self.anchor(answer)
        with pytest.raises(Unavailable, match="ConnectTimeout"):
            await anchor.keep(head())
        await anchor.close()
