"""The records of the knowledge cache and their keys: levels, statuses, producer identities, texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semore.datasets.atomic_io import digest16, digest_json

LevelName = Literal["texts", "masks", "verdicts"]
LEVELS: Final[tuple[LevelName, ...]] = ("texts", "masks", "verdicts")

Identity = Mapping[str, str | int | float | bool]
"""Everything that can change a producer's answer: kind, id@revision, prompt digest, preprocessing version, dtype,
decoding, engine, … as JSON values. `privileged: True` marks a producer that sees actor states, not pixels."""

Digests = NDArray[np.uint8]
"""(N, 16) uint8: one BLAKE2b-128 per row."""

INVALID: Final = 255
"""The verdict of a judge that gave no usable answer, and of a frame without a record."""


class Status(IntEnum):
    """How a record ended; of several records under one key the lowest status wins.

    texts: OK with phrases; OK without phrases means "looked, nothing relevant there" (H_ka is all zeros and valid);
    EMPTY means the describer gave no usable answer (H_ka is not valid). masks: OK, also when all zeros.
    verdicts: OK for 1 and 0, EMPTY for an answer that is neither. FAILED: with a reason, tried again by a later run.
    """

    OK = 0
    EMPTY = 1
    FAILED = 2


@dataclass(frozen=True)
class Text:
    """A describer's answer for one frame."""

    phrases: tuple[str, ...]
    status: Status = Status.OK
    reason: str = ""

    def encode(self) -> str:
        """The JSON stored in the cache."""
        return note(phrases=list(self.phrases), reason=self.reason, status=self.status.name.lower())

    @staticmethod
    def decode(stored: str) -> Text:
        """The Text behind a stored JSON string."""
        value = json.loads(stored)
        return Text(tuple(value["phrases"]), Status[value["status"].upper()], value["reason"])


class Phrases(NamedTuple):
    """The phrases of N texts, one after the other: `flat` are all M, `owners` (M,) the text of each, `counts` (N,) how
    many a text has, and `usable` (N,) bool whether it is an answer, if only that there is none."""

    flat: list[str]
    owners: NDArray[np.int64]
    counts: NDArray[np.int64]
    usable: NDArray[np.bool_]

    @staticmethod
    def of(texts: Sequence[Text | None]) -> Phrases:
        """Those to segment: none of a text that is missing, empty or failed."""
        usable = [text is not None and text.status == Status.OK for text in texts]
        named = [text.phrases if text is not None and use else () for text, use in zip(texts, usable, strict=True)]
        counts = np.array([len(phrases) for phrases in named], np.int64)
        flat = [phrase for phrases in named for phrase in phrases]
        return Phrases(flat, np.repeat(np.arange(len(texts)), counts), counts, np.array(usable, np.bool_))


def note(**fields: Any) -> str:
    """A record's JSON in canonical form, so that equal answers have equal digests."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def is_privileged(identity: Identity) -> bool:
    """Whether the producer sees actor states; its keys then hold the state digest too (design.md §3)."""
    return bool(identity.get("privileged", False))


def record_keys(
    level: LevelName,
    identity: Identity,
    frames: Digests,
    states: Digests,
    words: Sequence[str] | None = None,
) -> Digests:
    """(N, 16) keys: BLAKE2b-128 of (level, identity, frame digest[, state digest if privileged][, word digest]).

    frames, states (N, 16) uint8. words: None for texts, the N phrases for masks, the N action words for verdicts.
    """
    base = hashlib.blake2b(digest_size=16)
    base.update(level.encode() + b"\0" + digest_json(dict(identity)))
    rows = np.concatenate([frames, states], axis=1) if is_privileged(identity) else frames
    packed, width = np.ascontiguousarray(rows).tobytes(), rows.shape[1]
    if words is not None and len(words) != len(frames):
        raise ValueError(f"{len(words)} words for {len(frames)} frames")
    if words is None:
        tails = [b""] * len(frames)
    else:
        digests = {word: digest16(word.encode()) for word in set(words)}
        tails = [digests[word] for word in words]
    keys = bytearray()
    for index, tail in enumerate(tails):
        state = base.copy()
        state.update(packed[index * width : (index + 1) * width] + tail)
        keys += state.digest()
    return np.frombuffer(bytes(keys), np.uint8).reshape(-1, 16)


def mask_keys(identity: Identity, frames: Digests, states: Digests, phrases: Phrases) -> Digests:
    """(M, 16) keys of the masks of N frames' M phrases."""
    return record_keys("masks", identity, frames[phrases.owners], states[phrases.owners], phrases.flat)


def record_digests(
    keys: Digests, statuses: NDArray[np.uint8], notes: Sequence[bytes], values: NDArray[np.uint8] | None
) -> Digests:
    """(N, 16) digest of each record: key, status, note and value (mask or verdict bytes)."""
    tails = [b""] * len(keys) if values is None else [np.ascontiguousarray(value).tobytes() for value in values]
    parts = zip(keys, statuses, notes, tails, strict=True)
    found = b"".join(digest16(key.tobytes(), bytes([status]), text, tail) for key, status, text, tail in parts)
    return np.frombuffer(found, np.uint8).reshape(-1, 16)
