"""Signs of an instruction, which words and marks give away and an embedding blurs: what a window addresses, and how.

Each sign is a property of the language of instructions to people or to assistants, in general English; none is taken
from a known attack. They are counted, capped, and weighed by the heads.
"""

import math
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_VERBS = """
add ask book buy call cancel change check choose click close collect contact copy create deactivate
delete deliver deposit disable do download email enable enter execute export fetch fill find follow
forward get give grant go ignore include insert install invite list log look make message move open
order output pay post print provide publish purchase put read remove repeat replace reply report
reschedule reserve reset respond return reveal revoke run save say schedule search send set share
show sign store submit summarize tell transfer translate transmit update upload use view visit wire
withdraw write
"""
_VERB = rf"(?:{'|'.join(_VERBS.split())})"

SIGNS: dict[str, re.Pattern[str]] = {
    "begins_with_a_verb": re.compile(rf"^\W*(?:(?:please|now|then|first|also|and|just|kindly|do)\W+)*{_VERB}\b", re.I),
    "verb_after_a_mark": re.compile(rf"[:!>\])}}.,]\s*(?:(?:please|now|then|first|also|do)\W+)*{_VERB}\b", re.I),
    "verbs": re.compile(rf"\b{_VERB}\b", re.I),
    "please": re.compile(r"\b(?:please|kindly|make sure|be sure|remember to|don'?t forget)\b", re.I),
    "reader": re.compile(r"\b(?:you|your|yours|yourself)\b", re.I),
    "speaker": re.compile(r"\b(?:i|me|my|we|our|us)\b", re.I),
    "user": re.compile(r"\b(?:the|this|that|current) (?:user|customer|client|person|owner)(?:'s)?\b", re.I),
    "assistant": re.compile(
        r"\b(?:ai|assistant|agent|chatbot|bot|language model|llm|gpt\S*|claude|gemini|llama)\b", re.I
    ),
    "override": re.compile(r"\b(?:ignore|disregard|forget|override|overrule|bypass|skip|neglect|instead of)\b", re.I),
    "earlier": re.compile(r"\b(?:previous|prior|earlier|above|preceding|original|initial|so far|before)\b", re.I),
    "instructions": re.compile(
        r"\b(?:instruction|command|prompt|directive|guideline|rule|task|order|request)s?\b", re.I
    ),
    "instead": re.compile(r"\b(?:instead|rather|from now on|new|next|first|before (?:you|that|continuing))\b", re.I),
    "must": re.compile(r"\b(?:must|should|shall|need to|have to|required|mandatory|strictly|ensure)\b", re.I),
    "urgent": re.compile(r"\b(?:important|urgent|immediately|attention|critical|priority|asap|warning|notice)\b", re.I),
    "secretly": re.compile(
        r"\b(?:without (?:\w+ )?(?:\w+ing)|do not (?:tell|mention|reveal|ask)|silently|secretly)\b", re.I
    ),
    "tools": re.compile(r"\b(?:tool|function|api|argument|parameter|endpoint|plugin|call)s?\b", re.I),
    "role": re.compile(r"\b(?:system|assistant|developer|admin|root)\b\W{0,3}(?:message|prompt|note|:|\)|\])", re.I),
    "tag": re.compile(r"</?[A-Za-z][\w -]{1,30}>|\[/?[A-Z][A-Z_ ]{2,}\]|#{2,}|`{3}|\{\{|\|>|<\|"),
    "placeholder": re.compile(r"\$\w+|\{\w+\}|<\w+_\w+>"),
    "address": re.compile(r"\b\S+@\S+\.\w+|\b(?:https?://|www\.)\S+|\b[A-Z]{2}\d{8,}\b"),
    "key_and_value": re.compile(r"^\W*[\w ]{1,30}\s*[:=]", re.I),
    "exclaims": re.compile(r"!"),
    "asks": re.compile(r"\?|^\W*(?:could|can|would|will) (?:you|we)\b", re.I),
    "greets": re.compile(r"^\W*(?:hi|hey|hello|dear|best|regards|thanks|thank you|cheers|sincerely)\b", re.I),
    "past": re.compile(r"\b(?:was|were|had|did|has been|have been|\w{3,}ed)\b", re.I),
}
NAMES = (*SIGNS, "length", "capitals")
_CAP = 3


def signs(window: str) -> "NDArray[np.float32]":
    """Shape (signs,), each from 0 to about 1."""
    letters = sum(map(str.isalpha, window)) or 1
    counts = [min(_CAP, sum(1 for _ in pattern.finditer(window))) / _CAP for pattern in SIGNS.values()]
    return np.array([*counts, math.log1p(len(window)) / 7, sum(map(str.isupper, window)) / letters], np.float32)
