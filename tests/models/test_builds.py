"""Putting applications together: one process for those that start side by side, which ends with the last of them.

Ray is on paper here; tests/models/vllm has the real one.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hanse.contracts import Digest
from hanse.models import builds
from hanse.models.builds import Builds
from hanse.models.deployer import Deployed
from hanse.models.source import Weights
from hanse.models.stages import Stage
from hanse.models.tier import Kind, Tier

TIER = Tier("small", Kind.GENERATE, "tiny")
WEIGHTS = Weights(Path("/models/tiny"), Digest("sha256:1"), 1)
UNDER_WAY = Deployed(stage=Stage.BUILDING)


@dataclass
class Build:
    """A reference to what a builder will have done."""

    name: str
    ended: bool = False
    error: Exception | None = None


@dataclass
class Builder:
    begun: dict[str, Build] = field(default_factory=dict[str, Build])
    alive: bool = True

    @property
    def build(self) -> "Builder":
        return self

    def remote(self, name: str, *_: Any) -> Build:
        assert self.alive
        return self.begun.setdefault(name, Build(name))


class PaperRay:
    def __init__(self) -> None:
        self.builders: list[Builder] = []

    def options(self, **_: Any) -> "PaperRay":
        return self

    def remote(self) -> Builder:
        self.builders.append(Builder())
        return self.builders[-1]

    def get_runtime_context(self) -> Any:
        return type("Context", (), {"get_node_id": lambda _: "0" * 56})()

    def wait(self, refs: list[Build], timeout: float) -> tuple[list[Build], list[Build]]:
        return [each for each in refs if each.ended], [each for each in refs if not each.ended]

    def get(self, ref: Build) -> None:
        if ref.error:
            raise ref.error

    def kill(self, builder: Builder) -> None:
        builder.alive = False
        for build in builder.begun.values():
            build.error = build.error if build.ended else RuntimeError("Traceback\nActorDiedError: it was killed")
            build.ended = True


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> PaperRay:
    ray = PaperRay()
    monkeypatch.setattr(builds, "ray", ray)
    monkeypatch.setattr(builds, "_Builder", ray)
    return ray


def begun(*names: str) -> Builds:
    made = Builds(None)
    for name in names:
        made.begin(name, TIER, WEIGHTS)
    return made


def test_those_side_by_side_share_a_process_that_ends_with_the_last(ray: PaperRay) -> None:
    made = begun("one", "other")
    (builder,) = ray.builders
    assert [made.look(name) for name in ("one", "other", "a third")] == [UNDER_WAY, UNDER_WAY, None]
    builder.begun["one"].ended = True
    assert (made.look("one"), builder.alive) == (None, True)
    builder.begun["other"].ended = True
    assert (made.look("other"), builder.alive) == (None, False)
    made.begin("one", TIER, WEIGHTS)
    assert len(ray.builders) == 2


def test_one_that_fails_says_why_in_a_line_and_once(ray: PaperRay) -> None:
    made = begun("one")
    build = ray.builders[0].begun["one"]
    build.ended, build.error = True, RuntimeError("Traceback:\n  File x\nModuleNotFoundError: No module named 'vllm'\n")
    assert made.look("one") == Deployed(failed=True, message="ModuleNotFoundError: No module named 'vllm'")
    assert made.look("one") is None


def test_one_that_is_not_wanted_any_more_is_ended_and_the_others_are_begun_anew(ray: PaperRay) -> None:
    made = begun("one", "other")
    made.end("one")
    assert not ray.builders[0].alive
    assert made.look("one") is None
    assert made.look("other") == Deployed(failed=True, message="ActorDiedError: it was killed")
    made.begin("other", TIER, WEIGHTS)
    assert made.look("other") == UNDER_WAY
    made.end("never begun")
    assert ray.builders[1].alive
