"""Frames of the embedded world with their truths: seeds and policies in, labelled pictures out.

An episode is driven and looked at every dozen steps or so, which costs a fraction of recording it; frames of every
scenario under every weather, in equal numbers. What stands on disk is not drawn again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import chain, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from semore.annotate.interfaces import FrameBatch
from semore.annotate.oracle.rules import MIN_PIXELS, PHRASES, RULES_VERSION, lane_view, look, pixels
from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.env import control_of, ego_row
from semore.collect.policies import make_policy
from semore.collect.scenarios import SCENARIOS, WEATHERS
from semore.collect.simulator import Snapshot
from semore.datasets.atomic_io import atomic_file, digest_json, exclusive_lock, sweep_temporary
from semore.datasets.errors import SemoreError
from semore.datasets.progress import meter
from semore.datasets.rollouts.schema import ACTOR_COLUMN, MAX_EPISODE_STEPS, RECORDING_SIZE, SEED_SPLITS

SCENES_VERSION: Final = 2
"""Raise it with every change of what is drawn or stored."""
CELLS: Final = tuple((scenario, weather) for scenario in SCENARIOS for weather in WEATHERS)
"""Scenario and weather of a frame; `Scenes.cell` indexes it."""
POLICIES: Final = ("noisy_driver", "wander", "driver")
"""Who drives, in turn."""
MAX_ACTORS: Final = 24
FIRST_ACTOR: Final = 16
"""`Scenes.label` of the actor in row 0; lower values are SemanticClass."""
EVERY: Final = (10, 20)
"""Steps from one frame to the next, drawn anew each time."""
EMPTY_SHARE: Final = 0.15
"""Share of the frames without anything to name that is kept."""
PART: Final = 100
"""Frames of one cell that are drawn by one task and lie in one file."""
_SEEDS_PER_PART: Final = 100


@dataclass(frozen=True)
class Scenes:
    """N frames and what is where in them.

    rgb (N, 128, 128, 3) uint8; label (N, 128, 128) uint8, the semantic class of scenery, FIRST_ACTOR + row for actors;
    per actor row (N, A): code into PHRASES (−1: the rules name it not), kind (−1: no actor), seen (pixels), distance
    (m), column (of its centre of mass, −1 … 1), place (lanes to the right of the ego's); cell (N,) into CELLS; pose
    (N, 2), the ego's heading error (rad) and offset (lanes) in its lane.
    """

    rgb: NDArray[np.uint8]
    label: NDArray[np.uint8]
    code: NDArray[np.int16]
    kind: NDArray[np.int8]
    seen: NDArray[np.int32]
    distance: NDArray[np.float32]
    column: NDArray[np.float32]
    place: NDArray[np.float32]
    cell: NDArray[np.uint8]
    pose: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rgb)

    def take(self, row: int) -> Scenes:
        """One frame; views."""
        return Scenes(*(getattr(self, field.name)[row : row + 1] for field in fields(self)))

    @staticmethod
    def join(parts: list[Scenes]) -> Scenes:
        """The parts one after the other."""
        return Scenes(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Scenes)))

    def save(self, path: Path) -> None:
        """Write atomically."""
        with atomic_file(path) as temporary, open(temporary, "wb") as handle:
            np.savez(handle, **{field.name: getattr(self, field.name) for field in fields(self)})

    @staticmethod
    def read(path: Path) -> Scenes:
        """What `save` wrote; SemoreError when it is torn."""
        try:
            with np.load(path) as arrays:
                return Scenes(*(arrays[field.name] for field in fields(Scenes)))
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise SemoreError(f"{path} cannot be read ({error}); delete it to have it drawn again") from None


@dataclass(frozen=True)
class Part:
    """A task: draw `count` frames of one cell into `path`, from the seeds first, first + 1, …"""

    path: Path
    cell: int
    first: int
    count: int


def draw_scenes(folder: Path, split: str, frames: int, workers: int) -> Scenes:
    """At least `frames` frames of a seed split, as many of each cell; what is on disk is read."""
    here = folder / f"{split}-{_version()}"
    parts = list(_parts(here, split, -(-frames // len(CELLS))))
    with exclusive_lock(here / "lock", "drawing frames for CRIS-tiny"):
        sweep_temporary(here)
        todo = [part for part in parts if not part.path.is_file()]
        if todo:
            with meter(f"draw {split} frames", len(parts), "parts", len(parts) - len(todo)) as progress:
                for _ in _drawn(todo, workers):
                    progress.advance()
    return Scenes.join([Scenes.read(part.path) for part in parts])


def _version() -> str:
    about = [SCENES_VERSION, EmbeddedSimulator.version, EmbeddedSimulator.renderer_version, RULES_VERSION, *PHRASES]
    return digest_json([*about, *POLICIES, *EVERY, EMPTY_SHARE, PART]).hex()[:12]


def _parts(here: Path, split: str, per_cell: int) -> Iterator[Part]:
    """From the middle of the split on, so that the rollouts people record from its start are unseen too."""
    seeds = SEED_SPLITS[split]
    middle = (seeds.start + seeds.stop) // 2
    for start in range(0, per_cell, PART):
        for cell, (scenario, weather) in enumerate(CELLS):
            count = min(PART, per_cell - start)
            first = middle + (start // PART * len(CELLS) + cell) * _SEEDS_PER_PART
            if first + _SEEDS_PER_PART > seeds.stop:
                raise SemoreError(f"the {split} split has no seeds for so many frames; ask for fewer")
            yield Part(here / f"{scenario}-{weather}-{start:05d}-{count}.npz", cell, first, count)


def _drawn(todo: list[Part], workers: int) -> Iterator[None]:
    if workers < 2:
        yield from map(_draw_part, todo)
        return
    with get_context("spawn").Pool(min(workers, len(todo))) as pool:
        yield from pool.imap_unordered(_draw_part, todo)


def _draw_part(part: Part) -> None:
    simulator = EmbeddedSimulator(RECORDING_SIZE)
    episodes = (
        _episode(simulator, part, part.first + turn, POLICIES[turn % len(POLICIES)]) for turn in range(_SEEDS_PER_PART)
    )
    found = list(islice(chain.from_iterable(episodes), part.count))
    if len(found) < part.count:
        raise SemoreError(f"{_SEEDS_PER_PART} episodes of {CELLS[part.cell]} gave only {len(found)} frames")
    Scenes.join(found).save(part.path)


def _episode(simulator: EmbeddedSimulator, part: Part, seed: int, policy_name: str) -> Iterator[Scenes]:
    """The frames looked at in one episode, until the ego leaves the road or time is up."""
    scenario, weather = CELLS[part.cell]
    rng = np.random.default_rng([seed, 0xC415])
    policy = make_policy(policy_name)
    policy.start([seed])
    shot = simulator.reset(SCENARIOS[scenario], WEATHERS[weather], seed)
    next_look = int(rng.integers(EVERY[0]))
    for step in range(MAX_EPISODE_STEPS):
        if shot.lane is None or shot.road_ends:
            return
        if step == next_look:
            next_look += int(rng.integers(*EVERY))
            scene = scene_of(shot, part.cell)
            if (scene.code >= 0).any() or rng.random() < EMPTY_SHARE:
                yield scene
        info = {"ego": ego_row(shot), "actors": shot.actors}
        shot = simulator.step(control_of(policy.act([0], np.empty((1, 0), np.uint8), [info])[0]))


def scene_of(shot: Snapshot, cell: int) -> Scenes:
    """One frame and its truths."""
    images, actors = shot.images, shot.actors
    assert len(actors) <= MAX_ACTORS
    nobody, ego = np.zeros((1, 16), np.uint8), ego_row(shot)[None]
    batch = FrameBatch(
        images.rgb[None], nobody, nobody, images.semantic[None], images.instance[None], actors[None], ego
    )
    rules, lane = look(batch), lane_view(batch.ego)
    seen = pixels(batch.instance, rules.id)
    label = images.semantic.copy()
    column = np.zeros((1, MAX_ACTORS), np.float32)
    for row in np.flatnonzero(seen[0]):
        mask = images.instance == rules.id[0, row]
        label[mask] = FIRST_ACTOR + row
        column[0, row] = 2.0 * np.nonzero(mask)[1].mean() / (mask.shape[1] - 1) - 1.0
    return Scenes(
        images.rgb[None],
        label[None],
        _padded(rules.code, -1).astype(np.int16),
        _padded(actors[None, :, ACTOR_COLUMN["kind"]], -1).astype(np.int8),
        _padded(seen, 0).astype(np.int32),
        _padded(rules.distance, np.inf).astype(np.float32),
        column,
        _padded(rules.place, 0).astype(np.float32),
        np.array([cell], np.uint8),
        np.stack([lane.error, lane.offset / lane.width - np.round(lane.offset / lane.width)], axis=-1)[:, 0],
    )


def _padded(values: NDArray[np.float32] | NDArray[np.int64], fill: float) -> NDArray[np.float64]:
    out = np.full((1, MAX_ACTORS), fill)
    out[:, : values.shape[1]] = values
    return out


def visible(scenes: Scenes) -> NDArray[np.bool_]:
    """(N, A): actors of at least MIN_PIXELS pixels, whether the rules name them or not."""
    return scenes.seen >= MIN_PIXELS
