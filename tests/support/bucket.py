"""An object store on loopback that speaks S3 as far as pyarrow does: list, head, get, put, multipart, delete.

The client is the real one (`pyarrow.fs`, the AWS SDK). Objects lie in a dictionary, so that a test can tear them.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Bucket:
    """What is in it, by key."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        """Method and operation of every request, in order."""
        self.away = False
        """Everything is denied."""
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.numbers = count(1)
        self.port = 0

    @property
    def uri(self) -> str:
        """To be given as `memory.snapshots`."""
        where = f"scheme=http&endpoint_override=127.0.0.1:{self.port}&region=us-east-1"
        return f"s3://key:secret@backup/memory?{where}"


@contextmanager
def bucket() -> Iterator[Bucket]:
    """Answers until the end."""
    there = Bucket()
    handler = type("Handler", (_Handler,), {"bucket": there})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        there.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield there
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    bucket: Bucket
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _asked(self) -> tuple[str, dict[str, str], bytes]:
        """Key, query and body."""
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            body = _unchunked(body)
        operation = next((name for name in ("list-type", "uploads", "partNumber", "uploadId") if name in query), "")
        self.bucket.asked.append(f"{self.command} {operation}".strip())
        return unquote(parts.path).removeprefix("/backup").removeprefix("/"), query, body

    def _chunk(self) -> bytes:
        """The next one; the last is empty."""
        data = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return data

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("length") or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _is_away(self) -> bool:
        if self.bucket.away:
            self._answer(403, b"<Error><Code>AccessDenied</Code><Message>away</Message></Error>")
        return self.bucket.away

    def do_HEAD(self) -> None:
        key, _, _ = self._asked()
        if self._is_away():
            return
        if key and key not in self.bucket.objects:
            self._answer(404)
        else:
            data = self.bucket.objects.get(key, b"")
            self._answer(200, data, ETag=_etag(data), Last_Modified="Mon, 23 Nov 2026 00:00:00 GMT")

    def do_GET(self) -> None:
        key, query, _ = self._asked()
        if self._is_away():
            return
        if "list-type" in query:
            self._answer(200, self._listed(query.get("prefix", ""), query.get("delimiter", "")).encode())
        elif key not in self.bucket.objects:
            self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")
        else:
            data = self.bucket.objects[key]
            asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first, last = (int(asked[1]), int(asked[2] or len(data) - 1)) if asked else (0, len(data) - 1)
            part = data[first : last + 1]
            self._answer(206 if asked else 200, part, Content_Range=f"bytes {first}-{last}/{len(data)}")

    def do_PUT(self) -> None:
        key, query, body = self._asked()
        if self._is_away():
            return
        if "uploadId" in query:
            self.bucket.uploads[query["uploadId"]][int(query["partNumber"])] = body
        elif key:
            self.bucket.objects[key] = body
        self._answer(200, ETag=_etag(body))

    def do_POST(self) -> None:
        key, query, _ = self._asked()
        if self._is_away():
            return
        if "uploads" in query:
            upload = f"upload{next(self.bucket.numbers)}"
            self.bucket.uploads[upload] = {}
            tag, inner = "InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>"
        else:
            parts = self.bucket.uploads.pop(query["uploadId"])
            self.bucket.objects[key] = b"".join(parts[number] for number in sorted(parts))
            tag, inner = "CompleteMultipartUploadResult", f"<ETag>{_etag(self.bucket.objects[key])}</ETag>"
        self._answer(200, f"<{tag}><Bucket>backup</Bucket><Key>{escape(key)}</Key>{inner}</{tag}>".encode())

    def do_DELETE(self) -> None:
        key, _, _ = self._asked()
        if self._is_away():
            return
        self.bucket.objects.pop(key, None)
        self._answer(204)

    def _listed(self, prefix: str, delimiter: str) -> str:
        keys = [key for key in sorted(self.bucket.objects) if key.startswith(prefix)]
        inner = {key: key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "") for key in keys}
        folders = dict.fromkeys(prefix + first + cut for first, cut, _ in inner.values() if cut)
        files = [key for key in keys if not inner[key][1]]
        found = "".join(_file(key, self.bucket.objects[key]) for key in files)
        found += "".join(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in folders)
        counted = f"<KeyCount>{len(files) + len(folders)}</KeyCount><IsTruncated>false</IsTruncated>"
        return (
            f"<ListBucketResult><Name>backup</Name><Prefix>{escape(prefix)}</Prefix>{counted}{found}</ListBucketResult>"
        )


def _file(key: str, data: bytes) -> str:
    about = f"<Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>{_etag(data)}</ETag>"
    return f"<Contents>{about}<LastModified>2026-11-23T00:00:00.000Z</LastModified></Contents>"


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _unchunked(body: bytes) -> bytes:
    """Of `aws-chunked`: sizes in hexadecimal, each before its chunk, and trailers at the end."""
    data, at = b"", 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].partition(b";")[0], 16)
        if not size:
            return data
        data += body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
