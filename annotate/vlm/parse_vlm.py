"""Lenient parsing of a model's raw answers (method.md §8): a list into a Text, a 1 or 0 into a Verdict.

Nothing here raises, whatever the model says."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final

from instant_clip_tokenizer import Tokenizer

from semore.annotate.interfaces import MAX_PHRASES, Verdict
from semore.datasets.knowledge.records import Status, Text

PARSER_VERSION: Final = 1
"""Belongs to the identity of whoever uses this parser."""
MAX_PIECES: Final = 15
"""CLIP BPE pieces per phrase: CRIS reads 17 tokens, start and end included."""
MAX_ANSWER: Final = 4_000
"""Characters of an answer that are looked at; capped answers are far shorter."""
MAX_PHRASE: Final = 200
"""Characters of a phrase before it is fitted to MAX_PIECES."""
QUOTED: Final = 80
"""Characters of an unusable answer kept in the reason."""

_FENCE = re.compile(r"```\w*|~~~+\w*")
_STRING = re.compile(r"(?:\"([^\"\n]*)\"|(?<!\w)'((?:[^'\n]|'(?=\w))*)')(\s*:)?")
_KEYS: Final = ("phrase", "label", "name", "object", "text", "description", "category", "type")
"""Where JSON objects keep the phrase, best first; with none of them, their first string."""

_MARKS: Final = str.maketrans(dict.fromkeys('*_`#"“”„', " ") | {"’": "'", "：": ":"})
_BULLET = re.compile(r"\s*(?:[-+>‣•◦▪·–—]+\s*|\(?\d{1,3}[.):](?!\d)\s*|\(?[a-zA-Z][.)]\s+|\[[ x]?\]\s*)+")
_PARENTHESES = re.compile(r"\([^()]*\)|<[^<>]*>")
_TITLE = re.compile(
    r"\b(?:objects?|items?|list|phrases?|answers?|here|following|things?|output|scene|results?)\b", re.I
)
_NOUN = re.compile(r"\s*(?:an?|the|one|two|three|several|some|none)\b", re.I)
_ASIDE = re.compile(r"\s[-–—]+\s.*")
_BREAK = re.compile(r"[,;|•，、；。]|[.!?](?=\s|$)|\band (?=an? |the )")
_AFTERTHOUGHT = re.compile(
    r"(?:in|on|at|to|near|next|with|behind|beside|by|along|across|which|that|who|likely|possibly|including|both) "
)
_VIEW = r"(?:image|picture|scene|frame|view|photo)"
_LEAD = re.compile(
    rf"(?:and|also|or|then|(?:in|from) (?:the|this) {_VIEW}|there (?:is|are)|(?:i|we|you) (?:can )?see"
    rf"|(?:it|(?:the|this) {_VIEW}) (?:shows|contains|depicts|includes)) "
)
_THING = r"(?:objects?|items?|things?|obstacles?|hazards?|vehicles?|cars?|pedestrians?|people|traffic)"
_SORT = r"(?:other|such|visible|relevant|key|important|significant|notable|apparent|specific|moving|nearby)"
_NONE = re.compile(
    r"none|nil|null|empty|n/?a|no|none (?:of|visible)\b.*"
    r"|nothing(?: (?:else|here|relevant|visible|affects|affecting|in|that|to)\b.*)?"
    rf"|no (?:{_SORT} ){{0,3}}{_THING}(?: (?:that|which|here|in|on|ahead|visible|present|affect\w*|to|or|are|is)\b.*)?"
)
_CHATTER = re.compile(
    r"sure|certainly|of course|ok|okay|yes|here (?:is|are)|here you go|the following|answer|as follows"
    r"|(?:but |however )?(?:i'?m (?:sorry|unable|not able)|sorry|unfortunately|i apologi[sz]e|as an ai"
    r"|i (?:can'?t|cannot|can not|am unable|am sorry|don'?t|do not))\b.*"
)

_FALSE = re.compile(r"\b(?:not|isn't|isnt)(?: \w+)? (?:reasonable|safe|sure|certain|true)\b")
_WORD = re.compile(r"\b(?:(no|false|uncertain|unsure|unreasonable|unsafe)|yes|true|reasonable|safe)\b")
_OPENING = re.compile(r"\s*(?:yes|no|true|false)\b")
_DIGIT = re.compile(r"(?<![\w.,−-])[01](?!\w|[.,]\d)")


def parse_phrases(answer: str) -> Text:
    """A describer's answer as at most MAX_PHRASES distinct lower-case phrases of at most MAX_PIECES pieces each.

    OK without phrases: the model says that there is nothing. EMPTY with a reason: nothing usable. Parsing the phrases
    again, a line each, gives the same phrases.
    """
    lines, nothing = _lines(answer[:MAX_ANSWER])
    phrases, denied = _phrases(lines)
    while (again := _phrases(phrases)[0]) != phrases:  # a cut may lay bare more to cut; each round shortens
        phrases = again
    if phrases or nothing or denied:
        return Text(tuple(phrases))
    return Text((), Status.EMPTY, _reason("no phrase", answer))


def parse_verdict(answer: str) -> Verdict:
    """A judge's answer as 1 or 0; EMPTY with a reason where it says neither or both. Digits go before words,
    but a yes or no at the start counts too."""
    text = unicodedata.normalize("NFKC", answer[:MAX_ANSWER]).lower().translate(_MARKS)
    words = [int(not word[1]) for word in _WORD.finditer(_FALSE.sub("no", text))]
    said = {int(digit) for digit in _DIGIT.findall(text)} or set(words)
    if _OPENING.match(text):
        said.add(words[0])
    if len(said) == 1:
        return Verdict(said.pop())
    return Verdict.invalid(_reason("both 1 and 0" if said else "neither 1 nor 0", answer))


def _reason(what: str, answer: str) -> str:
    return f"{what} in {answer[:QUOTED]!r}" if answer.strip() else "the answer is empty"


def _lines(answer: str) -> tuple[list[str], bool]:
    """The lines of an answer, or the strings of the JSON in it; and whether that is JSON that lists nothing."""
    text = _FENCE.sub("\n", answer).strip()
    begin = min((place for place in (text.find("["), text.find("{")) if place >= 0), default=-1)
    if begin >= 0:
        end = max(text.rfind("]"), text.rfind("}")) + 1
        try:
            leaves = list(_leaves(json.loads(text[begin:end])))
        except (ValueError, RecursionError):  # no JSON, or cut short: whatever strings stand in it
            strings = _STRING.findall(text) if begin == 0 else []
            found = [double or single for double, single, key in strings if not key]
        else:
            found = [leaf for leaf in leaves if isinstance(leaf, str)]
            if begin == 0 and not found:
                return [], all(leaf is None for leaf in leaves)
        if found:
            return found, False
    return text.splitlines(), False


def _leaves(value: Any) -> Iterator[Any]:
    """The values of nested JSON lists, in order; of an object without lists or objects in it, its phrase only."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack += reversed(value)
        elif isinstance(value, dict):
            nested = [part for part in value.values() if isinstance(part, list | dict)]
            named = [value[key] for key in _KEYS if isinstance(value.get(key), str)]
            texts = named or [part for part in value.values() if isinstance(part, str)] or list(value.values())
            stack += texts[:1] if named or not nested else reversed(nested)
        else:
            yield value


def _phrases(lines: Iterable[str]) -> tuple[list[str], bool]:
    """The distinct phrases in some lines, fitted; and whether one of the lines says that there is nothing."""
    found: dict[str, None] = {}
    nothing = False
    for fragment in (fragment for line in lines for part in line.splitlines() for fragment in _fragments(part)):
        phrase = _plain(fragment)
        while lead := _LEAD.match(phrase):
            phrase = phrase[lead.end() :]
        letters = any(map(str.isalpha, phrase)) and (len(phrase) > 1 or not phrase.isascii())
        if _NONE.fullmatch(phrase):
            nothing = True
        elif letters and not _CHATTER.fullmatch(phrase):
            found[_fitted(phrase)] = None
    return list(found)[:MAX_PHRASES], nothing


def _fragments(line: str) -> Iterator[str]:
    """The parts of one line without bullet, markup, title, explanation and afterthoughts."""
    line = _PARENTHESES.sub(" ", line.translate(_MARKS))
    if bullet := _BULLET.match(line):
        line = line[bullet.end() :]
    head, colon, tail = line.partition(":")
    if colon:
        line = "" if not tail.strip() else tail if _TITLE.search(head) or _NOUN.match(tail) else head
    first, *others = _BREAK.split(_ASIDE.sub("", line.lower()))
    yield first
    yield from (other for other in others if not _AFTERTHOUGHT.match(other.strip()))


def _plain(fragment: str) -> str:
    """Letters, digits and what may stand inside a phrase, single-spaced."""
    kept = (
        char if char.isalnum() or char in "'-/&" or unicodedata.category(char)[0] == "M" else " " for char in fragment
    )
    return " ".join("".join(kept).split()).strip("'-/& ")


def _fitted(phrase: str) -> str:
    """As many of the phrase's words as fit MAX_PIECES; of a single endless word, as many characters."""
    encode = _tokenizer().encode
    words = phrase[:MAX_PHRASE].split()
    while len(words) > 1 and len(encode(" ".join(words))) > MAX_PIECES:
        words.pop()
    phrase = " ".join(words)
    while len(encode(phrase)) > MAX_PIECES:
        phrase = phrase[:-1]
    return phrase


@cache
def _tokenizer() -> Any:
    return Tokenizer()
