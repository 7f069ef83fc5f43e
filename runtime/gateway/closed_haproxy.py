"""Becomes HAProxy, after closing what Ray's configuration leaves open. Started by Ray in HAProxy's place; see `proxy`.

It runs on its own, without the package and without site-packages, each time HAProxy is started or reloaded. What it
does not recognise it does not let pass: a configuration with another listener than the gateway's is refused.
"""

import ctypes
import os
import re
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
HEAD_SECONDS = 30
"""How long the head of a request may take to arrive."""
ERRORS = {
    400: ("Bad Request", "bad_request", "the request is not one that HTTP knows"),
    408: ("Request Timeout", "timed_out", "the request took too long to arrive"),
    500: ("Internal Server Error", "internal", "the proxy in front of the gateway failed"),
    502: ("Bad Gateway", "unavailable", "the gateway broke off its answer"),
    503: ("Service Unavailable", "unavailable", "the gateway is not up, or is just coming up"),
    504: ("Gateway Timeout", "timed_out", "the gateway did not answer in time"),
}


class Refused(Exception):
    """This configuration is not what we know."""


def closed(configuration: str, folder: Path) -> str:
    """The same proxy with one listener, a private administration socket, no request log, and errors in our shape."""
    lines = [line for name, lines in _sections(configuration) if not _is_extra(name) for line in lines]
    text = "\n".join(_narrowed(line, folder) for line in lines if not _is_left_out(line)) + "\n"
    binds = re.findall(r"^\s*bind\s+(\S+)", text, re.MULTILINE)
    if len(binds) != 1:
        raise Refused(f"one listener was expected, and not {binds}")
    sockets = re.findall(r"^\s*stats socket .*", text, re.MULTILINE)
    if any("mode 600" not in each for each in sockets):
        raise Refused(f"an administration socket is open to others: {sockets}")
    return text


def _sections(configuration: str) -> list[tuple[str, list[str]]]:
    """A section begins where a line does not begin with a space."""
    found: list[tuple[str, list[str]]] = []
    for line in configuration.splitlines():
        if line[:1].strip() or not found:
            found.append((line.strip(), []))
        found[-1][1].append(line)
    return found


def _is_extra(section: str) -> bool:
    return section in ("frontend prometheus", "listen stats")


def _is_left_out(line: str) -> bool:
    return re.match(r"\s*(log\s|option (httplog|log-health-checks)\b|errorfile\s)", line) is not None


def _narrowed(line: str, folder: Path) -> str:
    if line.strip() == "defaults":
        errors = [f"    errorfile {status} {folder / str(status)}.http" for status in ERRORS]
        return "\n".join([line, f"    timeout http-request {HEAD_SECONDS}s", *errors])
    if line.startswith("    http-request return status 404 "):  # where no application is up yet
        return "    http-request deny deny_status 503"
    return line.replace("mode 666 level admin", "mode 600 level admin")


def write_errors(folder: Path) -> None:
    """What HAProxy answers where it cannot ask the gateway."""
    for status, (reason, code, detail) in ERRORS.items():
        body = (
            f'{{"type":"urn:hanse:error:{code}","title":"{reason}","status":{status},"detail":"{detail}",'
            f'"code":"{code}","ids":{{}}}}'
        )
        retry = "Retry-After: 1\r\n" if status == 503 else ""
        (folder / f"{status}.http").write_text(
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/problem+json\r\nCache-Control: no-store\r\n"
            f"{retry}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}",
            newline="",
        )


def _end_with_parent() -> None:
    """However the process that Ray started us from ends, no proxy is left behind."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise Refused("the parent is gone already")


def main(program: str, *arguments: str) -> None:
    """`program` is the real HAProxy, the arguments are Ray's."""
    if "-f" in arguments:
        path = Path(arguments[arguments.index("-f") + 1])
        text = closed(path.read_text(), path.parent)
        write_errors(path.parent)
        path.write_text(text)
    _end_with_parent()
    os.execv(program, [program, *arguments])


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (Refused, OSError) as error:
        sys.exit(f"HAProxy is not started: {error}")
