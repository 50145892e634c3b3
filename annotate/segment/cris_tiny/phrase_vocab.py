"""The phrases that CRIS-tiny is taught, with their meanings, and words as token numbers.

The privileged describer's phrases come first and mean exactly what its rules mean; beside them stand other wordings of
the same, and a few wider ones (a bare noun, a side, the nearest, all key objects, the scenery)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.annotate.oracle.rules import CODES, PHRASES
from semore.annotate.segment.cris_tiny.scenes import FIRST_ACTOR, Scenes, visible
from semore.datasets.rollouts.schema import KINDS, SemanticClass

PAD: Final = 0
UNKNOWN: Final = 1
MAX_WORDS: Final = 12
"""Words of a phrase that are read; what follows is not."""

_ARTICLES: Final = frozenset(("a", "an", "the", "of", "and", "is", "are", "that", "which", "s"))

_CAR = ("sedan", "sports car", "muscle car", "electric SUV")
_NOUNS: Final[dict[tuple[str, ...], tuple[str, ...]]] = {
    _CAR: ("car", "cars"),
    ("police car",): ("police car", "police cars"),
    ("fire truck",): ("fire truck", "fire trucks", "fire engine"),
    ("ambulance",): ("ambulance", "ambulances"),
    ("fire truck", "ambulance"): ("truck", "trucks"),
    ("police car", "fire truck", "ambulance"): ("emergency vehicle", "emergency vehicles"),
    (*_CAR, "police car", "fire truck", "ambulance"): ("vehicle", "vehicles", "traffic"),
    ("cyclist",): ("cyclist", "cyclists", "bicycle", "bicycles", "bike", "bicyclist", "person on bicycle"),
    ("pedestrian",): ("pedestrian", "pedestrians", "person", "people", "man", "woman", "walker"),
}
"""Kinds of actor (datasets.rollouts.schema.KINDS), and the nouns for them; the describer's own noun comes first."""

_LYING: Final = ("{} lying on the road",)
_DRIVING: Final[dict[tuple[str, ...], tuple[str, ...]]] = {
    _LYING: ("{} lying on road", "fallen {}", "{} lying down"),
    ("{} ahead",): (
        "{} ahead", "{} in front", "{} directly ahead", "{} in my lane", "{} ahead in my lane", "{} in front of me",
        "lead {}", "preceding {}", "{} in same lane",
    ),
    ("{} in the left lane",): ("{} in left lane", "{} in lane to the left", "{} in adjacent left lane"),
    ("{} in the right lane",): ("{} in right lane", "{} in lane to the right", "{} in adjacent right lane"),
    ("{} on the far left",): ("{} on far left", "{} far left"),
    ("{} on the far right",): ("{} on far right", "{} far right"),
    ("{} across the road",): ("{} across road", "{} blocking the road"),
    ("oncoming {}", "oncoming {} with headlights on"): (
        "oncoming {}", "approaching {}", "{} coming towards me", "{} in opposite lane", "{} in oncoming lane",
    ),
    ("oncoming {} with headlights on",): (
        "oncoming {} with headlights on", "approaching {} with headlights", "oncoming {} with high beams",
        "{} with bright headlights",
    ),
}  # fmt: skip
_ON_FOOT: Final[dict[tuple[str, ...], tuple[str, ...]]] = {
    _LYING: ("{} lying on road", "fallen {}", "{} lying down", "injured {}"),
    ("{} crossing the road",): ("{} crossing road", "{} crossing", "{} crossing street", "jaywalking {}"),
    ("{} about to cross the road",): ("{} about to cross road", "{} about to cross", "{} stepping onto the road"),
    ("{} at the roadside",): ("{} at roadside", "{} standing at roadside", "{} waiting at roadside"),
    ("{} at the roadside", "{} about to cross the road"): ("{} on sidewalk", "{} beside the road", "{} on pavement"),
    ("{} standing on the road",): ("{} standing on road",),
    ("{} walking on the road",): ("{} walking on road",),
    ("{} lying on the road", "{} crossing the road", "{} standing on the road", "{} walking on the road"): (
        "{} on road", "{} in road", "{} in street", "{} in front", "{} ahead",
    ),
}  # fmt: skip
"""Relations of annotate.oracle.rules, and other wordings for each (or for several together)."""

_DRIVERS: Final = ("car", "police car", "fire truck", "ambulance", "cyclist")
_SIDES: Final = {"left": ("{} on left", "{} on left side", "left {}"), "right": ("{} on right", "{} on right side")}
_NEAREST: Final = ("nearest {}", "closest {}")
_KEY: Final = ("key objects", "important objects", "hazards", "dangers", "obstacles", "road users")
_SCENERY: Final[dict[SemanticClass, tuple[str, ...]]] = {
    SemanticClass.ROAD: ("road", "road surface", "street", "lane"),
    SemanticClass.LANE_MARKING: ("lane markings", "lane marking", "road markings", "lane lines"),
    SemanticClass.SIDEWALK: ("sidewalk", "pavement", "sidewalks"),
    SemanticClass.BUILDING: ("buildings", "building", "houses"),
    SemanticClass.SKY: ("sky", "clouds"),
    SemanticClass.TERRAIN: ("grass", "terrain"),
    SemanticClass.GUARD_RAIL: ("guard rail", "guardrail"),
    SemanticClass.POLE: ("pole", "poles"),
}


@dataclass(frozen=True)
class Phrase:
    """Words and what they mean: the actors whose code is in `codes`, or, without codes, all visible ones of `kinds`;
    of these only those on one `side` of the picture, or the nearest; or the pixels of a class of `scenery`.

    `name`: its row in the tables; the describer's phrases are their own.
    """

    words: str
    codes: tuple[int, ...] = ()
    kinds: tuple[int, ...] = ()
    side: str = ""
    nearest: bool = False
    scenery: int = -1

    def meaning(self) -> Phrase:
        """The same for all phrases of the same meaning."""
        return replace(self, words="")

    def actors(self, scenes: Scenes) -> NDArray[np.bool_]:
        """(N, A): whom it means."""
        if self.codes:
            meant = np.isin(scenes.code, self.codes)
        else:
            meant = np.isin(scenes.kind, self.kinds) & visible(scenes)
        if self.side:
            meant &= (scenes.column < 0) == (self.side == "left")
        if self.nearest:
            reach = np.where(meant, scenes.distance, np.inf)
            meant &= reach == reach.min(axis=1, keepdims=True)
        return meant

    def table(self, scenes: Scenes) -> NDArray[np.bool_]:
        """(N, 256): which values of `Scenes.label` it means."""
        table = np.zeros((len(scenes), 256), bool)
        if self.scenery >= 0:
            table[:, self.scenery] = True
        else:
            table[:, FIRST_ACTOR : FIRST_ACTOR + scenes.code.shape[1]] = self.actors(scenes)
        return table


NOUN_WORDS: Final = frozenset(word for nouns in _NOUNS.values() for noun in nouns for word in noun.split())
"""Every word of a noun."""
DESCRIBED: Final = tuple(Phrase(words, codes=(code,)) for code, words in enumerate(PHRASES))
"""The describer's phrases, in the order of annotate.oracle.rules.PHRASES."""


def taught() -> tuple[Phrase, ...]:
    """The describer's phrases as they are taught: as DESCRIBED, except that an oncoming vehicle may have its headlights
    on where the words say nothing of them, as everybody but the rules would understand it."""
    wider = {CODES[f"oncoming {noun}"]: CODES[f"oncoming {noun} with headlights on"] for noun in _DRIVERS}
    return tuple(
        Phrase(phrase.words, (code, wider[code]) if code in wider else phrase.codes)
        for code, phrase in enumerate(DESCRIBED)
    )


def open_phrases() -> tuple[Phrase, ...]:
    """Other wordings and wider meanings, each once; none is a describer's phrase."""
    indices = {kind.name: index for index, kind in enumerate(KINDS)}
    found: dict[str, Phrase] = {}
    for kinds, nouns in _NOUNS.items():
        numbers = tuple(indices[kind] for kind in kinds)
        ours = _describers_nouns(kinds)
        relations = _ON_FOOT if "pedestrian" in kinds else _DRIVING
        for noun in nouns:
            for relation, wordings in relations.items():
                codes = tuple(CODES[form.format(own)] for form in relation for own in ours)
                for wording in wordings:
                    found.setdefault(wording.format(noun), Phrase(wording.format(noun), codes))
            found.setdefault(noun, Phrase(noun, kinds=numbers))
            for side, wordings in _SIDES.items():
                for wording in wordings:
                    found.setdefault(wording.format(noun), Phrase(wording.format(noun), kinds=numbers, side=side))
            for wording in _NEAREST:
                found.setdefault(wording.format(noun), Phrase(wording.format(noun), kinds=numbers, nearest=True))
    for words in _KEY:
        found[words] = Phrase(words, codes=tuple(range(len(PHRASES))))
    for semantic, names in _SCENERY.items():
        for words in names:
            found[words] = Phrase(words, scenery=int(semantic))
    return tuple(phrase for words, phrase in found.items() if words not in CODES)


def _describers_nouns(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """What the describer calls these kinds."""
    return tuple(dict.fromkeys("car" if kind in _CAR else kind for kind in kinds))


def words_of(phrase: str) -> list[str]:
    """The words that count: lower case, without articles and punctuation, at most MAX_WORDS."""
    return [word for word in re.findall(r"[a-z]+", phrase.lower()) if word not in _ARTICLES][:MAX_WORDS]


@cache
def vocabulary() -> dict[str, int]:
    """Token numbers of all words taught; PAD and UNKNOWN are below them."""
    words = {word for phrase in (*DESCRIBED, *open_phrases()) for word in words_of(phrase.words)}
    return {word: number for number, word in enumerate(sorted(words), start=UNKNOWN + 1)}


def tokens(phrases: Sequence[str]) -> NDArray[np.int64]:
    """(P, MAX_WORDS) token numbers, padded behind; a phrase without any word is one UNKNOWN."""
    known = vocabulary()
    out = np.full((len(phrases), MAX_WORDS), PAD, np.int64)
    for row, phrase in enumerate(phrases):
        numbers = [known.get(word, UNKNOWN) for word in words_of(phrase)] or [UNKNOWN]
        out[row, : len(numbers)] = numbers
    return out
