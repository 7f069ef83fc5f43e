"""Tokens counted beside the engine."""

import json
from pathlib import Path

import pytest

from hanse.models.counting import TokenCounter
from hanse.models.tiny import make_tiny

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("models"))


def user(text: str) -> dict[str, object]:
    return {"role": "user", "content": text}


def with_template(folder: Path, into: Path, template: object) -> Path:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (into / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}))
    (into / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    return into


def test_counts_the_marks_of_the_template_too(folder: Path) -> None:
    counter = TokenCounter.load(folder)
    assert counter is not None
    empty = counter.count([user("")])
    assert empty == 3  # <|user|>, </s>, <|assistant|>
    assert counter.count([user("refund")]) > empty
    assert counter.count([user(""), user("")]) == 2 * empty - 1


@pytest.mark.parametrize("template", [None, [{"name": "default", "template": "x"}], "{% broken"])
def test_a_model_whose_prompts_are_made_in_another_way_is_counted_by_its_engine(
    folder: Path, tmp_path: Path, template: object
) -> None:
    assert TokenCounter.load(with_template(folder, tmp_path, template)) is None


def test_a_template_cannot_leave_its_sandbox(folder: Path, tmp_path: Path) -> None:
    evil = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    counter = TokenCounter.load(with_template(folder, tmp_path, evil))
    assert counter is not None
    with pytest.raises(Exception, match="unsafe"):
        counter.count([user("hello")])


def test_a_conversation_that_the_template_refuses_is_refused(folder: Path, tmp_path: Path) -> None:
    counter = TokenCounter.load(with_template(folder, tmp_path, "{{ raise_exception('roles must alternate') }}"))
    assert counter is not None
    with pytest.raises(ValueError, match="alternate"):
        counter.count([user("hello")])
