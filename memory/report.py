"""The audit of a memory as it is told: findings with examples, a score, and a picture of them."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ..contracts import InvalidConfiguration


class Example(BaseModel):
    """One record with a finding, and why."""

    model_config = ConfigDict(frozen=True)

    ids: list[str]
    why: str


class Finding(BaseModel):
    """One kind of trouble."""

    model_config = ConfigDict(frozen=True)

    name: str
    count: int
    of: int
    """Records that could have it."""
    examples: list[Example]

    @property
    def share(self) -> float:
        """In [0, 1]."""
        return self.count / self.of if self.of else 0.0


class Report(BaseModel):
    """What the audit of one tenant found."""

    model_config = ConfigDict(frozen=True)

    at_ms: int
    records: int
    """Live ones."""
    quarantined: int
    superseded: int
    pinned: int
    bytes: int
    layers: dict[str, int]
    findings: list[Finding]
    score: float
    """0 to 100."""


def plot(report: Report, file: Path) -> None:
    """Draws the findings into a file, as its ending says: `.png`, `.svg`, `.pdf`. Raises InvalidConfiguration without
    matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InvalidConfiguration("a plot in a file needs matplotlib. Install it: pip install matplotlib") from error
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    shares = [100 * finding.share for finding in report.findings]
    bars = axes.barh([finding.name for finding in report.findings], shares)
    axes.bar_label(bars, [f"{finding.count} of {finding.of}" for finding in report.findings], padding=3)
    axes.set(xlim=(0, max(10.0, *shares) * 1.3), xlabel="% of the records that could have it")
    axes.set_title(f"{report.records} live records, score {report.score:g} of 100")
    axes.invert_yaxis()
    figure.savefig(file)
