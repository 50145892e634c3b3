"""The data of the viewer's page: pictures as sprite sheets, everything else as lists of numbers."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semore.datasets.knowledge.annotations import Annotations, read_annotations
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.knowledge.records import INVALID, Status
from semore.datasets.rollouts.schema import DT, SemanticClass
from semore.datasets.rollouts.store import Episode

ACROSS: Final = 12
"""Pictures side by side in a sheet, and one above the other: 144 to a sheet of 1,536 pixels at 128."""
QUALITY: Final = 88
"""WebP quality of the camera's pictures."""
HEAT: Final = (255, 64, 40)
"""Colour of H_ka."""
TRUTH: Final = {
    SemanticClass.CAR: (64, 150, 255), SemanticClass.TRUCK: (0, 200, 220), SemanticClass.BICYCLE: (255, 190, 0),
    SemanticClass.RIDER: (255, 140, 0), SemanticClass.PEDESTRIAN: (255, 60, 200),
}  # fmt: skip
"""Colours of the simulator's own classes; the others stay clear."""


def scene(episode: Episode, knowledge: KnowledgeSet | None) -> dict[str, Any]:
    """JSON values: a moment per decision frame of the episode, the last frame included."""
    arrays = episode.read("rgb", "semantic", "action", "reward", "speed", "progress", "impulse")
    rows = episode.decision_rows
    known = read_annotations(episode, rows, knowledge)
    action = np.concatenate([arrays["action"][rows[:-1]], np.zeros((1, 2), np.float32)])
    speed = np.concatenate([arrays["speed"][rows[:-1]], arrays["speed"][-1:]])
    reward, progress, impulse = (_per_decision(arrays[name], rows) for name in ("reward", "progress", "impulse"))
    return {
        "episode": episode.name,
        "attributes": dict(episode.attributes),
        "about": _about(episode.attributes),
        "knowledge": knowledge.name if knowledge else None,
        "across": ACROSS,
        "side": int(arrays["rgb"].shape[1]),
        "seconds": [round(row * DT, 3) for row in rows.tolist()],
        "step": rows.tolist(),
        "speed": _rounded(speed),
        "reward": _rounded(reward),
        "total": _rounded(np.cumsum(reward) - reward),
        "distance": _rounded(np.cumsum(progress) - progress),
        "impulse": _rounded(impulse),
        "steer": _rounded(action[:, 0]),
        "pedal": _rounded(action[:, 1]),
        "words": known.words,
        "verdict": [None if verdict == INVALID else int(verdict) for verdict in known.verdicts],
        "valid": known.valid.tolist(),
        "covered": _rounded(known.masks.mean(axis=(1, 2)) / 255, 4),
        "phrases": [list(text.phrases) if text else [] for text in known.texts],
        "note": [_note(known, number) for number in range(len(rows))],
        "camera": sheets(arrays["rgb"][rows]),
        "h_ka": sheets(_tinted(known.masks)) if known.valid.any() else [],
        "truth": sheets(_classes(arrays["semantic"][rows])),
        "legend": [[each.name.lower(), list(colour)] for each, colour in TRUTH.items()],
    }


def _about(attributes: Mapping[str, Any]) -> str:
    """Who drove, where, and how it went, as far as the recording tells: others than ours may tell less."""
    total = attributes.get("total_reward")
    known = {**attributes, "total_reward": f"{total:.1f}" if isinstance(total, int | float) else total}

    def told(key: str, before: str = "") -> str:
        return "" if known.get(key) is None else before + str(known[key]).replace("_", " ")

    parts = [
        told("scenario"), told("weather"), told("policy", "driven by "), told("ending", "ended: "),
        told("total_reward", "reward "), f"{told('split')} {told('seed', 'seed ')}".strip(),
    ]  # fmt: skip
    return " · ".join(part for part in parts if part)


def sheets(pictures: NDArray[np.uint8]) -> list[str]:
    """Data URIs of WebP sheets, ACROSS × ACROSS pictures (N, H, W, C) each, in reading order."""
    found = []
    for first in range(0, len(pictures), ACROSS**2):
        part = pictures[first : first + ACROSS**2]
        height, width, channels = part.shape[1:]
        down = -(-len(part) // ACROSS)
        room = np.zeros((down * ACROSS, height, width, channels), np.uint8)
        room[: len(part)] = part
        sheet = room.reshape(down, ACROSS, height, width, channels).swapaxes(1, 2)
        buffer = io.BytesIO()
        Image.fromarray(sheet.reshape(down * height, ACROSS * width, channels)).save(
            buffer, "WEBP", quality=QUALITY, alpha_quality=60, method=4
        )
        found.append("data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode())
    return found


def _per_decision(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over each decision's steps, and 0 for the last frame, which nothing follows."""
    return np.append(np.add.reduceat(values.astype(np.float64), rows[:-1]), 0.0)


def _rounded(values: NDArray[Any], digits: int = 3) -> list[float]:
    return [round(float(value), digits) for value in values]


def _tinted(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, H, W, 4): one colour, as opaque as the mask is high."""
    picture = np.empty((*masks.shape, 4), np.uint8)
    picture[..., :3], picture[..., 3] = HEAT, masks
    return picture


def _classes(semantic: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, H, W, 4): the actors' classes in their colours, the rest clear."""
    palette = np.zeros((256, 4), np.uint8)
    for each, colour in TRUTH.items():
        palette[each] = (*colour, 255)
    return palette[semantic]


def _note(known: Annotations, number: int) -> str:
    """Why there is no mask, or what the describer said about its answer; "" where all is well."""
    text = known.texts[number]
    if text is None:
        return "not annotated"
    if text.status != Status.OK:
        return f"the describer's answer {'is empty' if text.status == Status.EMPTY else 'failed'}: {text.reason}"
    if not text.phrases:
        return "nothing that matters is in sight"
    return "" if known.valid[number] else "a phrase has no mask"


def coverage_line(valid: Sequence[bool], knowledge: KnowledgeSet | None) -> str:
    """How much of the episode is annotated, in a sentence."""
    if knowledge is None:
        return "without knowledge: no set covers this episode"
    return f"masks of knowledge set {knowledge.name} on {sum(valid)} of {len(valid)} frames"
