"""A short one of the streams that `hanse.benchmarks.hygiene` sends, through the real service with the real embedder."""

from argparse import Namespace
from pathlib import Path

import pytest

from hanse.benchmarks import hygiene


@pytest.mark.parametrize("seed", [4])
async def test_junk_and_echoes_are_kept_out_and_what_is_good_is_kept(tmp_path: Path, seed: int):
    options = Namespace(seed=seed, facts=30, good=40, locomo=None, embedder="minilm", folder=str(tmp_path))
    told, _ = await hygiene.measure(options)
    wrong = [(each[0].family, each[1][:100]) for each in told if hygiene._is_wrong(*each)]
    assert len(told) > 350
    assert hygiene.share(told, good=False) >= 95, wrong
    assert hygiene.share(told, good=True) >= 98, wrong
