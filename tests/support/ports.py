"""Who listens where, as the kernel says it."""

import os
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

LISTENING = "0A"


def free_port() -> int:
    """On loopback, until somebody else takes it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listeners(pid: int) -> set[tuple[str, int]]:
    """Addresses and ports on which a process takes TCP connections."""
    inodes = set(_socket_inodes(pid))
    return {place for table in ("tcp", "tcp6") for inode, place in _listening(table) if inode in inodes}


def processes_with(variable: str, value: str) -> dict[int, str]:
    """Processes of this user that have this in their environment, and what they call themselves."""
    wanted = f"{variable}={value}".encode()
    return {pid: name for pid, name, environment in _processes() if wanted in environment.split(b"\0")}


def _processes() -> Iterator[tuple[int, str, bytes]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                name = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                yield int(folder.name), name, (folder / "environ").read_bytes()
            except OSError:
                continue


def _socket_inodes(pid: int) -> Iterator[str]:
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(handle)
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[8:-1]


def _listening(table: str) -> Iterator[tuple[str, tuple[str, int]]]:
    for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTENING:
            yield fields[9], _place(fields[1])


def _place(text: str) -> tuple[str, int]:
    """`0100007F:1F90` is 127.0.0.1:8080: words of four bytes, each the wrong way round."""
    address, _, port = text.partition(":")
    raw = b"".join(bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8))
    place = IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)
    return str(getattr(place, "ipv4_mapped", None) or place), int(port, 16)
