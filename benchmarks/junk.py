"""What a memory is flooded with, for `hygiene`: small talk, talk about work, boilerplate, output, noise, and echoes.

The texts were written down as such messages are, with no look at the lists of the gate. The gate's lists were then
widened by what the first half of each kind showed to be missing, and not by the second half. Echoes are
made of what was recalled, in the ways in which agents say again what they were given.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

TEXTS = json.loads((Path(__file__).parent / "junk.json").read_text())
SYNONYMS: dict[str, str] = TEXTS["synonyms"]
PERSONS = (
    (r"\bI'm\b", "the user is"),
    (r"\bI’m\b", "the user is"),
    (r"\bI am\b", "the user is"),
    (r"\bI've\b|\bI’ve\b|\bI have\b", "the user has"),
    (r"\bI\b", "the user"),
    (r"\bmy\b", "their"),
    (r"\bMy\b", "Their"),
    (r"\bme\b", "them"),
    (r"\bwe\b", "they"),
    (r"\bour\b", "their"),
)

Maker = Callable[[Random], str]


def noise(chance: Random) -> str:
    """No language at all."""
    return chance.choice((_mash, _random_words, _blob, _stutter, _shuffled_letters, _signs))(chance)


def output(chance: Random) -> str:
    """What programs write."""
    return chance.choice((_log, _trace, _markup, _data, _access_log, _progress, _code))(chance)


def line_of(lines: Sequence[str]) -> Maker:
    """One of some texts, with numbers filled in."""

    def make(chance: Random) -> str:
        numbers = {"n": chance.randint(1, 400), "m": chance.randint(400, 900), "y": chance.randint(2012, 2027)}
        return chance.choice(lines).format(**numbers)

    return make


def small_talk(chance: Random) -> str:
    """One to three courtesies."""
    return " ".join(chance.sample(TEXTS["small talk"], chance.choice((1, 1, 2, 3))))


ALONE: Mapping[str, Maker] = {
    "small talk": small_talk,
    "talk about work": line_of(TEXTS["talk about work"]),
    "boilerplate": line_of(TEXTS["boilerplate"]),
    "output of programs": output,
    "noise": noise,
}
"""Junk that needs nothing to be made of."""


# Of what is there


def respelled(text: str, chance: Random) -> str:
    """The same words in other clothes."""
    changes: Sequence[Callable[[str], str]] = (
        lambda each: each.upper(),
        lambda each: each.lower(),
        lambda each: "  ".join(each.split(" ")),
        lambda each: each.replace(",", "").replace(";", ""),
        lambda each: each.rstrip(".!?") + "...",
        lambda each: each.replace("’", "'").replace("—", " - "),
        lambda each: f"> {each}\n",
    )
    for change in chance.sample(changes, 2):
        text = change(text)
    return text


def framed(text: str, chance: Random) -> str:
    return chance.choice(TEXTS["frames"]).format(text=text)


def in_part(text: str, chance: Random) -> str:
    """Some of its sentences, in their order."""
    parts = split(text)
    kept = sorted(chance.sample(range(len(parts)), max(1, len(parts) // 2)))
    return " ".join(parts[place] for place in kept)


def reordered(text: str, chance: Random) -> str:
    parts = split(text)
    chance.shuffle(parts)
    return " ".join(parts)


def retold(text: str, chance: Random) -> str:
    """In the third person."""
    for pattern, instead in PERSONS:
        text = re.sub(pattern, instead, text)
    return framed(text, chance) if chance.random() < 0.5 else text


def reworded(text: str, chance: Random) -> str:
    """With a synonym for every fourth word that has one, and at least for one."""
    places = [match.span() for match in re.finditer(r"[A-Za-z]+", text) if match[0].lower() in SYNONYMS]
    for start, end in sorted(chance.sample(places, -(-len(places) // 4)), reverse=True):
        text = text[:start] + SYNONYMS[text[start:end].lower()] + text[end:]
    return text


def split(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", text.strip())


# Noise and output


def _mash(chance: Random) -> str:
    rows, count = ("qwertyuiop", "asdfghjkl;", "zxcvbnm,."), chance.randint(1, 6)
    return " ".join("".join(chance.choices(chance.choice(rows), k=chance.randint(5, 12))) for _ in range(count))


def _random_words(chance: Random) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join("".join(chance.choices(letters, k=chance.randint(3, 11))) for _ in range(chance.randint(3, 20)))


def _blob(chance: Random) -> str:
    data = chance.randbytes(chance.randint(30, 300))
    return chance.choice(
        (base64.b64encode(data).decode(), data.hex(), f"sig={base64.urlsafe_b64encode(data).decode()}")
    )


def _stutter(chance: Random) -> str:
    word = chance.choice(("the", "no", "and then", "blah", "error", "test", "a", "I I"))
    return " ".join([word] * chance.randint(8, 60))


def _shuffled_letters(chance: Random) -> str:
    words = "please remember that the delivery arrives on monday afternoon with the parcel"
    return " ".join("".join(chance.sample(word, len(word))) for word in words.split())


def _signs(chance: Random) -> str:
    return "".join(chance.choices("!?.,-_=*#~^|<>[]{}()%$&@ 🎉🔥😂", k=chance.randint(3, 60)))


def _log(chance: Random) -> str:
    level = chance.choice(("INFO", "DEBUG", "WARN", "ERROR"))
    what = chance.choice(
        ("heartbeat ok", "connection reset by peer", "cache miss for key", "flushed buffers", "retrying")
    )
    day, minute = f"2026-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}", chance.randint(10, 59)
    return "\n".join(f"{day} 10:{minute}:07,{n:03} {level} worker-{n} {what}" for n in range(chance.randint(1, 5)))


def _trace(chance: Random) -> str:
    line = chance.randint(1, 900)
    place = f'File "/srv/app/{line}.py", line {line}, in run'
    calls = f"\tat com.acme.Main.run(Main.java:{line})\n\tat com.acme.Main.main(Main.java:9)"
    return chance.choice(
        (
            f"Traceback (most recent call last):\n  {place}\n    main()\nKeyError: 'x'",
            f"java.lang.NullPointerException\n{calls}",
        )
    )


def _markup(chance: Random) -> str:
    return f'<div class="c{chance.randint(1, 99)}">\n  <span id="x"></span>\n  <br/>\n</div>'


def _data(chance: Random) -> str:
    made = {"status": chance.choice(("ok", "error")), "code": chance.randint(200, 504), "items": [], "next": None}
    return json.dumps(made, indent=chance.choice((None, 2)))


def _access_log(chance: Random) -> str:
    moment = f"21/Nov/2026:10:00:{chance.randint(10, 59)} +0000"
    return f'10.0.0.{chance.randint(1, 254)} - - [{moment}] "GET /health HTTP/1.1" 200 2'


def _progress(chance: Random) -> str:
    done = chance.randint(0, 10)
    drawn = "█" * done + " " * (10 - done)
    return f"Downloading: {10 * done}%|{drawn}| {done}/10 [00:0{chance.randint(1, 9)}<00:01, 4.2it/s]"


def _code(chance: Random) -> str:
    return chance.choice(
        (
            "def run(self):\n    return self.queue.pop()",
            "SELECT * FROM users WHERE id = 5;",
            "import os\nfrom sys import argv",
            "const x = await fetch(url);\nreturn x.json();",
            "$ kubectl get pods -n default",
        )
    )
