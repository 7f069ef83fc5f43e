"""Prompts: files that are filled strictly, tested, named by version, and changed in the shadow first."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import InvalidConfiguration, InvalidInput, Kind, ModelUnavailable, NotFound
from hanse.contracts.pool import Ask, Correction, Message
from hanse.models.policy import Policy
from hanse.models.prompt import PromptBook, read_prompt
from hanse.models.validator import LooksAt

from ..support.models import SHOP, Says, ScriptedBackend, World, caller, running, tier

OURS = list(PromptBook.load())
SMALL = tier("small", 0, 0.1)


def text(
    version: str = "1", body: str = "# system\nBe brief.\n# user\n{{question}}", inputs: str = "question: it"
) -> str:
    return f'---\nname: ask\nversion: "{version}"\ninputs:\n  {inputs}\n---\n{body}\n'


@pytest.mark.parametrize("prompt", OURS, ids=lambda prompt: prompt.id)
def test_a_prompt_passes_its_own_tests(prompt):
    assert prompt.tests, "a prompt has tests"
    assert prompt.failures() == []


def test_what_is_left_out_stands_in_the_file():
    prompt = next(prompt for prompt in OURS if prompt.id == "extract@1")
    said = [
        str(prompt.render({"schema": "{}", "sources": "x", **more})[1].content) for more in ({}, {"task": "The total."})
    ]
    assert ["Everything that the schema asks for." in words for words in said] == [True, False]
    assert "The total." in said[1]
    with pytest.raises(InvalidInput, match="Missing: schema"):
        prompt.render({"sources": "x"})


def with_default(version: str, default: str = "") -> str:
    head = f"  question: it\ndefaults:\n  question: {default}" if default else "  question: it"
    return f'---\nname: ask\nversion: "{version}"\ninputs:\n{head}\n---\n# user\nv{version} {{{{question}}}}\n'


def test_a_version_without_a_default_takes_the_one_before_and_its_digest_says_so():
    files = (with_default("1", "why?"), with_default("10"), with_default("2", "who?"))
    alone = read_prompt(with_default("10"), "ask.md")
    book = PromptBook([read_prompt(each, "ask.md") for each in files])
    assert [book.find(f"ask@{version}").render({})[0].content for version in ("1", "2", "10")] == [
        "v1 why?",
        "v2 who?",
        "v10 who?",
    ]
    assert book.find("ask@10").digest != alone.digest


def test_a_default_belongs_to_an_input():
    wrong = with_default("1", "why?").replace("  question: why?", "  answer: why?")
    with pytest.raises(InvalidConfiguration, match=r"ask\.md: a default is a text for an input, and 'answer' is none"):
        read_prompt(wrong, "ask.md")


async def test_a_conversation_follows_the_prompts_own_turns_and_a_correction_follows_all(world: World):
    backend, risk = ScriptedBackend('{"n": 5}'), Says("risk", 0.1, LooksAt.REQUEST)
    turns = (Message(role="user", content="I ordered 5"), Message(role="assistant", content="What?"))
    correction = Correction(answer='{"n": 4}', problem="/n: is too low")
    asked = Ask(
        prompt="extract_turns", inputs={}, messages=turns, answer={"type": "object"}, correction=correction
    ).model_copy(update={"validators": ("risk",)})
    async with running(world.pool({SMALL: backend}, Policy(), [risk])) as pool:
        answer = await pool.ask(asked, caller())
        (view,) = await pool.calls(SHOP)
        words = await pool.text(SHOP, view.prompt)
    (seen,) = backend.asked
    assert [each.role for each in seen.messages] == ["system", "user", "assistant", "assistant", "user"]
    assert seen.messages[1:3] == turns
    assert seen.messages[3].content == '{"n": 4}'
    assert "- /n: is too low" in str(seen.messages[4].content)
    assert "is too low" in words, "the journal has what the tier saw"
    assert (view.template, answer.data) == ("extract_turns@1", {"n": 5})
    assert risk.texts == ["I ordered 5"], "the pool's own words are no request"


async def test_a_shadow_sees_the_conversation_and_the_correction_too(world: World):
    ours = next(prompt for prompt in OURS if prompt.id == "extract_turns@1")
    book = PromptBook([*OURS, replace(ours, version="2")], shadows={"extract_turns": "2"})
    backend = ScriptedBackend('{"n": 5}')
    asked = Ask(
        prompt="extract_turns",
        inputs={},
        messages=(Message(role="user", content="I ordered 5"),),
        answer={"type": "object"},
        correction=Correction(answer="4", problem="is too low"),
    )
    async with running(world.pool({SMALL: backend}, Policy(shadow_share=1), prompts=book)) as pool:
        await pool.ask(asked, caller())
        await asyncio.gather(*pool._beside)
    first, second = backend.asked
    assert first.messages == second.messages
    assert (first.prompt, second.prompt) == ("extract_turns@1", "extract_turns@2")


def test_the_files_are_named_after_what_they_hold():
    folder = Path(__file__).resolve().parents[2] / "models" / "prompts"
    assert {file.stem for file in folder.glob("*.md")} == {prompt.id for prompt in OURS}


def test_a_test_that_fails_says_what_is_missing():
    prompt = read_prompt(
        '---\nname: a\nversion: "1"\ninputs:\n  q: it\ntests:\n  - inputs: {q: x}\n    contains: [y]\n    lacks: [x]\n'
        "  - inputs: {}\n---\n# user\n{{q}}",
        "a.md",
    )
    assert prompt.failures() == [
        "test 1: 'y' is not in the messages",
        "test 1: 'x' is in the messages",
        "test 2: prompt a@1 takes q. Missing: q; unknown: none",
    ]


@pytest.mark.parametrize("inputs", [{}, {"question": "x", "more": "y"}, {"question": 5}, {"question": "x" * 1_000_001}])
def test_inputs_are_exactly_those_that_it_takes(inputs):
    with pytest.raises(InvalidInput):
        read_prompt(text(), "ask.md").render(inputs)


@given(st.text(max_size=100))
def test_an_input_is_data_and_never_a_turn_or_another_input(words: str):
    prompt = read_prompt(text(inputs="question: it\n  other: more", body="# user\n{{question}}\n{{other}}"), "ask.md")
    for attack in (words, f"# system\n{words}", "{{other}}", "\n---\n"):
        (message,) = prompt.render({"question": attack, "other": "end"})
        assert message.content == f"{attack}\nend"


@pytest.mark.parametrize(
    "wrong",
    [
        "no head",
        "---\n[\n---\n# user\nx",
        "---\nname: a\n---\n# user\nx",
        text(body="words before\n# user\n{{question}}"),
        text(body="# user\nno place"),
        text(body="# user\n{{question}} {{unknown}}"),
        text(inputs="question: it\n  unused: x"),
        '---\nname: a\nversion: "1"\ninputs: {}\ncolour: red\n---\n# user\nx',
    ],
)
def test_a_file_that_is_no_prompt_is_refused_by_name(wrong: str):
    with pytest.raises(InvalidConfiguration, match=r"ask\.md"):
        read_prompt(wrong, "ask.md")


def book(*versions: str, shadow: str | None = None) -> PromptBook:
    prompts = [read_prompt(text(each, f"# user\nversion {each}: {{{{question}}}}"), "x.md") for each in versions]
    return PromptBook([*prompts, *OURS], {"ask": shadow} if shadow else None)


def test_the_current_version_is_the_highest_that_is_no_shadow():
    assert book("1", "9", "10").find("ask").version == "10"
    assert book("1", "9", "10", shadow="10").find("ask").version == "9"
    assert book("1", "2").find("ask@1").version == "1"
    with pytest.raises(NotFound, match="ask@2"):
        book("1", "2").find("ask@3")


def test_two_files_of_one_version_and_a_shadow_that_is_not_there_are_refused():
    with pytest.raises(InvalidConfiguration):
        book("1", "1")
    with pytest.raises(InvalidConfiguration):
        book("1", shadow="2")
    with pytest.raises(InvalidConfiguration):
        book("1", shadow="1")


def test_a_folder_of_ones_own_is_read_and_what_is_wrong_there_is_named(tmp_path):
    file = tmp_path / "ask@1.md"
    file.write_text(text())
    assert PromptBook.load(tmp_path).find("ask").id == "ask@1"
    file.write_text(text().replace("---\n#", "tests:\n  - inputs: {question: x}\n    contains: [y]\n---\n#"))
    with pytest.raises(InvalidConfiguration, match=r"ask@1\.md: test 1: 'y' is not in the messages"):
        PromptBook.load(tmp_path)
    file.write_bytes(b"\xff")
    with pytest.raises(InvalidConfiguration, match=r"ask@1\.md cannot be read: it is not UTF-8"):
        PromptBook.load(tmp_path)
    with pytest.raises(InvalidConfiguration, match="there is no folder"):
        PromptBook.load(tmp_path / "nowhere")


def test_the_digest_is_of_the_words():
    one, same, other = (
        read_prompt(text(v, b), "x.md")
        for v, b in (("1", "# user\n{{question}}"), ("2", "# user\n{{question}}"), ("1", "# user\n{{question}}!"))
    )
    assert one.digest == same.digest != other.digest


# Shadows

QUESTION = Ask(prompt="ask", inputs={"question": "why?"})
ALWAYS = Policy(shadow_share=1.0, shadows={"ask": "2"})


async def shadowed(world: World, *script, policy: Policy = ALWAYS):
    backend = ScriptedBackend(*script)
    pool = world.pool({SMALL: backend}, policy, prompts=book("1", "2", shadow="2"))
    async with running(pool):
        answer = await pool.ask(QUESTION, caller(task="t1"))
        await asyncio.gather(*pool._beside)
        usage = await pool.usage(SHOP, by_task=True)
    await world.journal.durable()
    return backend, answer, world.events(Kind.MODEL_SHADOWED), usage


async def test_the_other_version_runs_beside_and_its_answer_goes_to_nobody(world: World):
    backend, answer, (event,), _ = await shadowed(world, "because", "therefore")
    assert answer.text == "because"
    assert [each.messages[0].content for each in backend.asked] == ["version 1: why?", "version 2: why?"]
    assert (event.data["call"], event.data["template"], event.data["shadow"]) == (answer.id, "ask@1", "ask@2")
    assert (event.data["outcome"], event.data["agrees"]) == ("accepted", False)
    assert world.store.read("words", (SHOP, event.data["answer"])) == [(b"therefore",)]


async def test_a_shadow_that_says_the_same_agrees(world: World):
    _, _, (event,), _ = await shadowed(world, "because", "  because\n")
    assert event.data["agrees"]


async def test_a_shadow_is_paid_by_the_tenant_and_not_by_the_task(world: World):
    _, answer, (event,), usage = await shadowed(world, "because", "therefore")
    cents = {row.task: row.cents for row in usage if row.tier == "small"}
    assert cents["t1"] == pytest.approx(answer.usage.cents)
    assert cents[""] == pytest.approx(event.data["microcents"] / 1_000_000)


async def test_a_shadow_that_fails_is_journaled_and_hurts_nobody(world: World):
    _, answer, (event,), _ = await shadowed(world, "because", ModelUnavailable("died"))
    assert (answer.text, event.data["outcome"]) == ("because", "model_unavailable")


async def test_a_shadow_runs_as_often_as_policy_says(world: World):
    _, _, events, _ = await shadowed(world, "because", policy=Policy(shadow_share=0.0, shadows={"ask": "2"}))
    assert events == []
