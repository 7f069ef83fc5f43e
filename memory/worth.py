"""Whether a text says anything: what the write gate holds against a draft of no value.

A text is looked at sentence by sentence, and one sentence that says something is enough. What says nothing: thanks and
small talk, an agent's talk about its own work, phrases from the bottom of letters and pages, the output of machines,
and what is no language at all. None of it looks at who wrote it; a typed fact and a pinned record are never asked.
"""

import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from .ahead import Ahead
from .wording import FUNCTION_WORDS, KEPT_STEMS, plain_text, sentences, stem, tokens_of, word_set

MACHINE = "is the output of a machine"

_LETTERS = re.compile(r"[^\W\d_]")
_LATIN = re.compile(r"[a-z]{3,}")
_LONG = re.compile(r"\S{24}")

_COURTESY = word_set(
    "absolutely afk agree ah aha alright amazing anybody anytime apologies apologise apologize appreciate appreciated "
    "assistance aw awesome aww aye beautiful best bet bless bravo brb brilliant btw bye catch chat cheer cheers clear "
    "come "
    "completely congrats congratulations cool cordially correct couldnt course deal dear definitely delighted dokey "
    "earlier everybody everyone everything exactly excellent excited exciting fab fabulous fantastic feel fine "
    "fingers folks forward free fun fyi glad gladly go going good goodbye goodnight gosh gotcha gr8 grateful great "
    "greetings gtg guess ha haha happy hear hello help helped helpful helping hey hi hilarious hiya hmm hold honored "
    "honoured hope hoping hth huge humble hurry idk imho imo incredible indeed interesting k kind kindly kk know "
    "later lmao lol look looking luck luckily mate maybe meet mhm much nah neat need nice no nope not noted nothing "
    "now np nvm obliged oh ok okay okey omg omw one oops ouch pal pardon patience patient perfect perfectly perhaps "
    "please pleased pleasure pls plz possibly problem proceed question quick quickly reach ready really receive "
    "regards relief reply respectfully right rofl roger rush safe sec second see sense sincerely smh somebody soon "
    "sorry sound sounds splendid stay super sure sweet swell take talk tbh today terrific thank thanks thankyou thing "
    "think "
    "thrilled thumb thx time totally touch truly try ttyl ty understand understood useful wait wanna want warm warmly "
    "wave way welcome well whoa wish wonderful worries worry wow ya yay yea yeah yep yes yo yup yw"
)
"""What people say to be kind, and what they say while they think. Alone it tells nothing that anyone would look up."""

_GREETING = re.compile(
    r"\b(?:good|great|nice|lovely|wonderful|happy|rest of (?:your|the)|(?:have|had|enjoy) (?:a|an|your|the))"
    r"(?:\s+(?:good|great|nice|lovely|wonderful|productive|safe|rest of (?:your|the)))?\s+"
    r"(?:day|night|morning|evening|afternoon|weekend|week|time|trip|rest|holidays?)\b"
    r"|\b(?:would|'d) (?:love|like) (?:to|that|it)\b|\blove (?:it|that|this)\b|\b(?:take care|makes? sense|no worries|"
    r"no problem|my bad|of course|not at all|by all means|give me|hang on|one (?:moment|second|minute|sec)|a (?:moment|"
    r"minute|second|bit)|at (?:this|the) moment|right away|get(?:ting)? back|(?:good|great|nice) (?:job|work|chat|talk)"
    r"(?:ing)?|fair (?:enough|point)|to be (?:honest|fair|frank)|(?:that is|that's|what) (?:\w+ )?news|means? a (?:lot|"
    r"great deal)|keep (?:it up|up the)|you rock|long time no see|a million|sleep well|give (?:me|us) a (?:shout|call|"
    r"ring)|be of (?:any |some |further )?(?:assistance|help|service)|for the (?:delay|confusion|inconvenience|trouble|"
    r"mix-?up|wait|late reply|misunderstanding|heads.?up|reminder)(?: earlier)?|how(?:'s it going| are (?:you|things)|"
    r" have you been)|see you (?:later|soon|around|then|tomorrow)|what'?s up|as (?:always|ever)|in advance|"
    r"(?:the )?same here|me too|like a charm|all set|"
    r"no (?:rush|hurry)|doing business|(?:i )?(?:didn't|did not) "
    r"catch (?:that|you|it)|(?:one|a) (?:more )?(?:quick )?(?:question|thing)|(?:that's|that is|that'll be) all|"
    r"whenever you|with (?:something|this|that)|coffee first|be right back)\b",
    re.IGNORECASE,
)
"""The same in several words, of which some would tell something by themselves."""

_WORKING = word_set(
    "account action additional agent analyse analysing analyze answer anything api appropriate argument assist "
    "assistant attempt available await based begin call capability carry check checking command complete completed "
    "completion confirm connected connecting context continue could data database detail determine different done "
    "empty enough entry error errors execute executed executing execution fetch fetched final finalise finalize find "
    "finish finished first found function functions gather generate going handle identify information initialise "
    "initialize initializing input inquiry instruct instruction instructions invoke item items latest load loaded "
    "loading look lookup mark marked match message move moving ms new next no not nothing null number ok operation "
    "output parameter parameters parse pass passed perform plan prepare previous proceed process processed processing "
    "pull query question ready relevant report request requested required respond response result retrieve retry "
    "return returned review row run running save search searching select server start started status step store "
    "submit subtask succeed success successful successfully task timed timeout tool unable update updated use user "
    "using validate validation verify wait waiting without workflow working"
)
"""What an agent says of its own work."""

_BOILERPLATE = re.compile(
    r"as an ai\b|language model|i (?:can(?:no|')t|(?:am|'m) (?:not able|unable)) .{0,40}\b(?:assist|help "
    r"with|provide|browse)|intended (?:solely )?(?:only )?for the (?:use of the )?(?:individual|recipient|addressee|"
    r"person)|intended recipient|(?:delete|destroy) (?:it|this (?:e-?mail|message))|confidential(?:ity)? (?:notice|and "
    r"privileged)|unsubscribe|all rights reserved|©|\(c\) \d{4}|(?:do|please) not reply|automat(?:ed|ically generated) "
    r"(?:message|e-?mail|reply|response|notification)|terms (?:and|&) conditions|terms of (?:service|use)|privacy "
    r"(?:policy|notice)|cookie|your call is important|for (?:quality|training) (?:assurance|purposes)|thank(?:s| you) "
    r"for (?:contacting|reaching out|your (?:patience|interest|inquiry|enquiry|business|purchase|order|feedback|"
    r"message|e-?mail|understanding))|view (?:this|it) (?:e-?mail|message)? ?in (?:your|a) browser|sent from my|"
    r"click (?:here|the (?:link|button))|subject to change|past performance|without warrant|add us to your (?:address|"
    r"contacts)|follow us on|(?:feel free|(?:do )?not hesitate) to (?:contact|reach|ask|let)|is there anything else|"
    r"how (?:can|may) i (?:help|assist)|(?:out of (?:the )?office|back in the office)|lorem ipsum|"
    r"(?:rate|about) your (?:recent )?(?:experience|visit)|powered by|value your (?:privacy|feedback|business)|"
    r"(?:strictly|expressly) prohibited|(?:you are|you're) receiving this|(?:manage|update) your "
    r"(?:notification|e-?mail|subscription|preferences)|visit our (?:website|site|page)|property of their respective|"
    r"(?:kind|best|warm)(?:est)? regards|(?:cannot|can't|may not) be combined with|please allow \d|just an ai|"
    r"reply stop|opt[ -]out|if you have any (?:further |other |additional |more )?questions|^disclaimer\b|^copyright\b|"
    r"apologi[sz]e for (?:any|the)|please see attached|finds you well|^(?:the )?(?:\w+ )?(?:service|support) team\W*$|"
    r"get back to you (?:within|as soon|shortly)|may be (?:recorded|monitored)|your feedback|consider the "
    r"environment|scanned (?:by|for virus)",
    re.IGNORECASE,
)
"""Phrases that stand at the bottom of letters and pages and in the mouths of machines that answer."""

_ANY_PHRASE = Ahead([_GREETING, _BOILERPLATE])

_MACHINE = re.compile(
    r"^\s*(?:"
    r"(?:\[|\()?\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?\S*\s+\S*\s*(?:\[|\b)(?:trace|debug|info|notice|warn|error|fatal)"
    r"|(?:trace|debug|info|notice|warn(?:ing)?|error|fatal|critical)\b\s*[:\]|]"
    r"|traceback \(most recent|file \"[^\"]+\", line \d+|at \S+\([^)]*:\d+\)|\w+(?:\.\w+)*(?:error|exception)\b:?"
    r"|</?\w+[^>]*>|<!--|[{}\[\]],?\s*$|\{.*\}\s*$|\[.*\]\s*$|\"\w+\":"
    r"|(?:get|post|put|patch|delete|head) /\S*|http/\d|[\d.]+ - - \[|(?:\$|>>>|#!|//|/\*|\*/)\s?"
    r"|(?:import|from|def|class|return|const|let|var|function|public|private|select|insert|update) .*[;:({=]"
    r"|\S{0,20}\s*\d{1,3}%\s*[|\[█▏#=>.]|[-=_*#~.|+]{4,}"
    r")",
    re.IGNORECASE,
)
"""Lines that only machines write: logs, stack traces, markup, data, code, progress bars, rules."""

_PAIRS = (
    "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic "
    "ne ea ra ce li ch ll be ma si om ur ca el ta la ns di fo ho pe ec pr no ct us ac ot il tr ly nc et ut ss so rs un "
    "lo wa ge ie wh ee wi em ad ol rt po we na ul ni ts mo ow pa im mi ai sh ir su id os iv ia am fi ci vi pl ig tu ev "
    "ld ry mp fe bl ab gh ty op wo sa ay ex ke fr oo av ag if ap gr od bo sp rd do uc bu ei ov by rm ep tt oc fa ef cu "
    "rn sc gi da yo cr cl du ga qu ue ff ba ey ls va um pp ua up lu go ht ru ug ds lt pi rc rr eg au ck ew mu br bi pt "
    "ak pu ui rg ib tl ny ki rk ys ob mm fu ph og ms ye ud mb ip ub oi rl gu dr hr cc tw ft wn nu af hu nn eo vo rv nf "
    "xp gn sm fl iz ok nl my gl aw ju oa eq sy sl ps jo lf nv je nk kn gs dy hy ze ks xt bs ik dd pt rp sk xi oe oy ws"
)
"""Pairs of letters in the order of how often English has them, after Norvig's counts (English letter frequency counts
revisited, 2013). Other languages in Latin letters have mostly the same ones."""
_PAIR_RANKS = {pair: rank for rank, pair in enumerate(_PAIRS.split())}
_COMMON_PAIRS = frozenset(_PAIR_RANKS)
_UNKNOWN_RANK = 400
"""Of a pair of letters that English hardly has: behind the last one of the list."""
_HOLDING_WORDS = (
    FUNCTION_WORDS | word_set("no not now see new good"),
    *map(
        word_set,
        (
            "der die das und den von zu mit sich des auf nicht ein eine als auch es an werden aus er hat dass sie nach",
            "el la de que y en un ser se por con para como su le lo pero los las una del al es muy sin sobre este ya",
            "les et est une pour qui dans ce il sur pas plus avec tout nous vous mais ou leur au du des ne je",
            "di che e non per sono ma ha si gli della dei alla nel anche come questo",
            "o os as um uma do da dos das no na nao mais foi ele ela seu sua ou quando muito",
            "het een van ik te dat hij zijn op aan met voor niet was er maar om hem dan zou wat mijn",
            "och att det som av de ett har jag inte om vi var kan skal til fra ikke med vil sig men hun han den vi",
            "ja on ei eika se han oli mutta kun niin kuin sen tai myos joka mita ovat",
            "w z sie nie ze jest od po jak ale dla przez czy tym juz byl",
            "je v se na ze s za by ale jako pro tak si to jsem byl",
            "az hogy nem egy is ez van csak meg mint de ha vagy",
            "ve bir bu da icin ile ne gibi daha cok var ama o",
            "si cu care nu mai pe sa din este lui fi au ca",
            "yang dan dari untuk dengan ini itu tidak ke pada adalah juga akan sudah bisa oleh saya ada",
            "ya wa kwa ni katika cha vya hii na kuwa alikuwa",
            "ang ng sa mga na ay at si ko mo ito hindi para kung",
            "et in non ad cum ut sed quod ex qui ab hoc",
            "ir kad yra su bet buvo tai un ka ar par no bija",
            "u i je na da su koji za od kao ali bi iz",
        ),
    ),
)
"""The commonest words of some twenty languages of Latin letters, each language by itself, without their accents."""
LONG_RUN, HOLDING_SHARE, ENGLISH_RANK = 10, 0.09, 112
"""Words in a row that are judged at least; the share of the above that sentences have at least (of the languages tried,
Finnish has least: one in eleven); and the mean rank of pairs of letters up to which English sentences go. Of one and
two letters there are few orders, so anagrams with many short words are let through."""
STRANGE_RANK = 195
"""Sentences in English have mean ranks up to 115, in other languages of Latin letters up to 190, keys that were hit at
random from 200 on. Anagrams of real words lie between; see `_holds_no_sentence`."""


def objection(text: str) -> str:
    """Why a text is of no value, in words; empty when it may be kept."""
    visible = plain_text(text)
    if not _LETTERS.search(visible):
        return "" if _has_figures(visible) else "has no words"
    return _is_noise(text, visible) or _says_nothing(text)


def _has_figures(text: str) -> bool:
    """A bare number may be what was asked for; a row of signs is not."""
    return len(re.findall(r"\d", text)) >= 0.5 * len(text.replace(" ", ""))


def _is_noise(text: str, visible: str) -> str:
    if _is_encoded(text):
        return "is encoded data"
    if _repeats_itself(visible):
        return "repeats itself"
    if (_is_gibberish(visible) or _holds_no_sentence(text)) and not _is_of_names(text):
        return "is no language"
    return ""


def _is_of_names(text: str) -> bool:
    """Names may have any letters in any order, and whoever hits keys at random seldom writes capitals."""
    words = re.findall(r"[^\W\d_]{2,}", text)
    return sum(word.istitle() for word in words) > 0.5 * len(words)


def _is_encoded(text: str) -> bool:
    """Most of it is in words that are too long, and too mixed, to be words."""
    if not _LONG.search(text):
        return False
    blobs = [word for word in text.split() if len(word) >= 24 and _is_mixed(word) and "://" not in word]
    return sum(map(len, blobs)) > 0.6 * len("".join(text.split()))


def _is_mixed(word: str) -> bool:
    kinds = (re.search(kind, word) for kind in ("[a-z]", "[A-Z]", r"\d"))
    return sum(kind is not None for kind in kinds) >= 2 and _entropy(word) > 3


def _entropy(text: str) -> float:
    """Shannon's, in bits per character."""
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())


def _repeats_itself(visible: str) -> bool:
    """One word over and over, one letter over and over, or one sentence that never ends."""
    words = visible.split()
    if len(words) >= 6 and len(set(words)) <= len(words) / 4:
        return True
    characters = "".join(words)
    if len(visible) >= 4 and max(map(characters.count, set(characters))) > 0.6 * len(characters):
        return True
    data = visible.encode()
    return len(data) >= 200 and len(zlib.compress(data, 9)) < 0.15 * len(data)


def _is_gibberish(visible: str) -> bool:
    """Letters in an order that hardly any text in Latin letters has. Other scripts are not judged."""
    words = _LATIN.findall(_folded(visible))
    latin = sum(map(len, words))
    if latin < 0.5 * len(visible) and latin < 0.5 * len(_LETTERS.findall(visible)):
        return False
    if not words:
        return len(_LETTERS.findall(visible)) > 8 and len(visible.split()) > 3
    return _strange_share(words) > 0.5 and _mean_rank(words) > STRANGE_RANK


def _holds_no_sentence(text: str) -> bool:
    """Many words in a row, in letters as English does not have them, and hardly one that holds a sentence together in
    any one language of Latin letters: words with their letters in another order.

    What has a comma, a capital, an accent or a number is not judged: lists, names and nearly all other languages.
    """
    words = text.split()
    if len(words) < LONG_RUN or not re.fullmatch(r"[a-z\s]+[.!?]?", text.strip()):
        return False
    holding = max(sum(word.strip(".!?") in language for word in words) for language in _HOLDING_WORDS)
    return holding < HOLDING_SHARE * len(words) and _mean_rank(_LATIN.findall(text)) > ENGLISH_RANK


def _folded(visible: str) -> str:
    """Without accents, so that a word stays one word."""
    if visible.isascii():
        return visible
    apart = unicodedata.normalize("NFKD", visible.replace("ł", "l").replace("ø", "o").replace("đ", "d"))
    return "".join(character for character in apart if not unicodedata.combining(character))


def _mean_rank(words: Sequence[str]) -> float:
    """Of the pairs of letters, by how often English has them."""
    pairs = [word[i : i + 2] for word in words for i in range(len(word) - 1)]
    return sum(_PAIR_RANKS.get(pair, _UNKNOWN_RANK) for pair in pairs) / len(pairs)


def _strange_share(words: Sequence[str]) -> float:
    """Share of the letters that stand in strange words, in [0, 1]."""
    strange = sum(len(word) for word in words if _is_strange(word))
    return strange / sum(map(len, words))


@lru_cache(KEPT_STEMS)
def _is_strange(word: str) -> bool:
    """More than a third of its pairs are rare ones, or it has no vowel. Abbreviations of three letters are let be."""
    if len(word) < 4 or word in FUNCTION_WORDS:
        return False
    pairs = [word[i : i + 2] for i in range(len(word) - 1)]
    rare = sum(pair not in _COMMON_PAIRS for pair in pairs)
    return rare > 0.34 * len(pairs) or not re.search("[aeiouy]", word) or bool(re.search("[^aeiouy]{6}", word))


def _says_nothing(text: str) -> str:
    parts = list(filter(_LETTERS.search, sentences(text)))
    said = [part for part in parts if not _MACHINE.match(part)]
    if len(parts) - len(said) > 0.6 * len(parts):
        return MACHINE
    if not parts or any(map(_says_something, sorted(said, key=len, reverse=True))):  # one is enough: the longest first
        return ""
    return Counter(_objection_to(part) if part in said else MACHINE for part in parts).most_common(1)[0][0]


def _says_something(part: str) -> bool:
    return not _objection_to(part)


def _objection_to(part: str) -> str:
    """Why a sentence of words says nothing."""
    phrases = _ANY_PHRASE.may_find(part)
    if phrases and _BOILERPLATE.search(part):
        return "is boilerplate"
    said = _GREETING.sub(" ", part) if phrases else part
    left = {token.stem for token in tokens_of(said) if token.stem is not None and not token.word.isdecimal()}
    left -= _COURTESY_STEMS
    if not left:
        return "" if _has_numbers(part) else "is courtesy"
    return "" if left - _WORKING_STEMS else "is talk about work"


def _has_numbers(part: str) -> bool:
    """Words that are spelt with digits, such as `gr8`, are no numbers."""
    return any(re.search(r"\d", word) and plain_text(word).strip(".,!?") not in _COURTESY for word in part.split())


_COURTESY_STEMS = frozenset(map(stem, _COURTESY))
_WORKING_STEMS = frozenset(map(stem, _WORKING))
