"""Counts requests, and writes Prometheus' text format. Small on purpose: no client library, no registry, no threads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Sample = tuple[Mapping[str, str], float]


@dataclass(slots=True)
class Meter:
    """What this process has answered."""

    requests: dict[tuple[str, str, int], int] = field(default_factory=dict[tuple[str, str, int], int])
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    """Per route. An event stream counts from its first byte to its last."""

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """`route` is the template, never the path, so there are as many as there are routes."""
        key = (method if method in _METHODS else "OTHER", route, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        self.seconds[route] = self.seconds.get(route, 0.0) + seconds


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def metric(name: str, kind: str, help: str, samples: Iterable[Sample]) -> Iterable[str]:
    """The lines of one metric."""
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield _sample(name, labels, value)


def histogram(name: str, help: str, series: Iterable[tuple[Mapping[str, str], Mapping[str, float]]]) -> Iterable[str]:
    """The lines of one histogram: of each series its labels, and its count up to each bound beside its `sum`."""
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} histogram"
    for labels, values in series:
        for bound, count in values.items():
            if bound != "sum":
                yield _sample(f"{name}_bucket", {**labels, "le": bound}, count)
        yield _sample(f"{name}_sum", labels, values["sum"])
        yield _sample(f"{name}_count", labels, values["+Inf"])


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    """To a billionth: a sum of years of cents must still show the last one."""
    return f"{name}{_labels(labels)} {int(value) if value == int(value) else round(value, 9)}"


def _labels(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
    return f"{{{inside}}}" if inside else ""


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
