"""Where is information lost? What a linear probe reads of the nearest key object from each stage of a run's network.

`python -m study.probe RUN …` takes the frozen features of the held-out recordings and fits ridge regressions to what
the simulator's state says: whether a key object is within 40 m in view, how far away and on which side it is, and the
ego's speed. Each frame is predicted by a fit that has not seen its episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from semore.annotate.audit.truth import true_grids
from semore.annotate.interfaces import FrameBatch
from semore.datasets.atomic_io import write_text
from semore.datasets.command_line import SOME, read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import FramePool, frames_of, rows_of
from semore.datasets.progress import meter
from semore.datasets.resize import shrink
from semore.datasets.rollouts.schema import EGO_COLUMN
from semore.datasets.rollouts.store import Episode
from semore.datasets.run_command import run_command
from semore.evaluate.table import markdown
from semore.train.agent import Agent, make_agent
from semore.train.encoder import DualStream, Neck
from semore.train.health import auc
from semore.train.learner import Learner
from semore.train.pictures import stacked
from semore.train.run_io import run_settings, trained_agent
from semore.train.settings import TrainSettings
from study.nearest import REACH, nearest
from study.ridge import Floats, constant_predictions, held_out_predictions, r2
from study.run_data import episodes_of, knowledge_of

PIXELS: Final = 16
"""Side of the raw pictures that are probed."""
CELLS: Final = 4
"""Side that the last maps are pooled to."""
LEAST: Final = 1.0
"""Metres below which distances are not told apart."""
HEADER: Final = (
    "run", "probed", "width", "is one there (AUC)", "distance (R²)", "to the right (R²)", "side (AUC)", "speed (R²)",
)  # fmt: skip
NOTES: Final = f"""\
Linear probes of the nearest key object within {REACH:.0f} m in view. *Distance* is its logarithm, *to the right* in
metres from the ego's heading, *side* the same prediction as a score for right against left; these three on frames that
show one. The constant is the mean of what the others are fitted on: R² 0, AUC 0.5, or less; where it is far less, the
episodes differ more than their frames, and more of them are needed. The exact mask is the simulator's; H_ka is what
training reads.
"""


class Truth(NamedTuple):
    """Of N frames: whether a key object is there (N,) bool; log distance and metres to the right (N,), NaN where none
    is; the ego's speed (N,) m/s; the exact mask of key objects (N, PIXELS²) in [0, 1]; the episode's number (N,)."""

    there: NDArray[np.bool_]
    distance: Floats
    right: Floats
    speed: Floats
    mask: Floats
    episode: NDArray[np.int64]


class Scores(NamedTuple):
    """Of one kind of feature, in the order of HEADER; NaN where nothing can be told."""

    there: float
    distance: float
    right: float
    side: float
    speed: float


def truth_of(episodes: Sequence[Episode], frame_skip: int) -> Truth:
    """At every decision frame and each episode's last."""
    parts = []
    for number, episode in enumerate(episodes):
        rows = rows_of(episode, frame_skip)
        batch = FrameBatch.read(episode, privileged=True).take(rows)
        found = nearest(batch)
        speed = np.hypot(batch.ego[:, EGO_COLUMN["vx"]], batch.ego[:, EGO_COLUMN["vy"]]).astype(np.float64)
        distance = np.log(np.maximum(found.distance, LEAST))
        mask = true_grids(episode, rows, PIXELS).reshape(len(rows), -1) / 255.0
        parts.append(Truth(found.there, distance, found.right, speed, mask, np.full(len(rows), number)))
    return Truth(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def scores(features: Floats | None, truth: Truth) -> Scores:
    """What is read from features (N, F); None stands for the constant."""

    def predicted(targets: Floats, rows: NDArray[np.bool_]) -> Floats:
        if features is None:
            return constant_predictions(targets, truth.episode[rows])
        return held_out_predictions(features[rows], targets, truth.episode[rows])

    every = np.ones(len(truth.there), np.bool_)
    there, speed = predicted(np.stack([truth.there.astype(np.float64), truth.speed], 1), every).T
    found = auc(there.astype(np.float32), truth.there) if 0 < truth.there.sum() < len(every) else np.nan
    moving = r2(speed, truth.speed)
    if len(np.unique(truth.episode[truth.there])) < 3:
        return Scores(found, np.nan, np.nan, np.nan, moving)
    own_distance, own_right = truth.distance[truth.there], truth.right[truth.there]
    distance, right = predicted(np.stack([own_distance, own_right], 1), truth.there).T
    both_sides = 0 < (own_right > 0).sum() < len(own_right)
    side = auc(right.astype(np.float32), own_right > 0) if both_sides else np.nan
    return Scores(found, r2(distance, own_distance), r2(right, own_right), side, moving)


@torch.inference_mode()
def features_of(agent: Learner, observation: Tensor) -> dict[str, Tensor]:
    """By name, of observations (B,9,S,S) uint8, with the mask that acting uses: last maps pooled to CELLS², the
    student's mask, and the latents (B, F) of the critics' neck, and of the actor's."""
    backbone = agent.backbone
    features = backbone(*backbone.inputs(stacked(observation), 2))
    pooled = nn.functional.adaptive_avg_pool2d
    found = {"map": pooled(features.semantic, CELLS)}
    if isinstance(backbone, DualStream):
        found = {"semantic map": found["map"], "motion map (attended)": pooled(features.motion, CELLS)}
    found["student's mask"] = features.student.sigmoid()
    if isinstance(agent, Agent):
        now = agent.neck(features)
        if isinstance(backbone, DualStream):
            found |= {"z_s": now.semantic, "z_m": now.motion}
            if isinstance(agent.neck, Neck) and agent.neck.known is not None:
                found["z_k"] = agent.neck.known(features.known)
        found["z"] = now.fused
    found["actor's z"] = agent.actor_neck(features).fused
    return {name: values.flatten(1) for name, values in found.items()}


def probed(agent: Learner, pool: FramePool) -> dict[str, Floats]:
    """The features of all frames of a pool."""
    parts = [features_of(agent, pool.observation(part)) for part in torch.arange(pool.size).split(256)]
    return {name: torch.cat([part[name] for part in parts]).double().numpy() for name in parts[0]}


def held_out(run: Path, settings: TrainSettings, rollouts: str = "") -> tuple[FramePool, Truth]:
    """The frames of the recorded validation episodes, and the truth of them. SemoreError when the episodes are fewer
    than 3."""
    episodes = episodes_of(settings, "validation", rollouts)
    if len(episodes) < 3:
        raise SemoreError(
            f"{episodes[0].path.parent} has {len(episodes)} validation episodes; probing takes at least 3: record more "
            "(collect --validation_episodes 6), or name other rollouts with --rollouts PATH"
        )
    knowledge = knowledge_of(run, settings)
    pool = FramePool(settings.view, sum(frames_of(episode, settings.frame_skip) for episode in episodes))
    for episode in episodes:
        pool.add(episode, knowledge)
    return pool, truth_of(episodes, settings.frame_skip)


def measure(run: Path, checkpoint: str, rollouts: str = "") -> dict[str, tuple[int, Scores]]:
    """The width and scores of everything that is probed of a run, by name."""
    settings, agent = run_settings(run), trained_agent(run, checkpoint)
    pool, truth = held_out(run, settings, rollouts)
    torch.manual_seed(settings.seed)
    untrained = probed(make_agent(settings.agent).eval(), pool)
    pictures = pool.observation(torch.arange(pool.size)).numpy()
    sources: Mapping[str, Floats] = {
        f"the three pictures at {PIXELS}²": shrink(pictures, PIXELS).reshape(pool.size, -1).astype(np.float64),
        f"the exact mask at {PIXELS}²": truth.mask,
        **({"H_ka": _flat(pool.masks)} if pool.mask_valid.any() else {}),
        **probed(agent, pool),
        **{f"{name}, untrained": untrained[name] for name in ("z", "actor's z") if name in untrained},
    }
    found = {name: (values.shape[1], scores(values, truth)) for name, values in sources.items()}
    return {"constant": (0, scores(None, truth)), **found}


def _flat(masks: Tensor) -> Floats:
    values: Floats = masks.flatten(1).double().numpy()
    return values


def cells(run: str, found: Mapping[str, tuple[int, Scores]]) -> list[list[str]]:
    """Of HEADER."""
    return [
        [run, name, str(width), *("–" if np.isnan(score) else f"{score:.2f}" for score in own)]
        for name, (width, own) in found.items()
    ]


@dataclass(frozen=True)
class ProbeSettings:
    """Whose features to probe, and where to write."""

    runs: tuple[str, ...] = field(metadata=SOME)
    """Folders of runs with a checkpoint, finished or under way."""
    checkpoint: str = "best.ckpt"
    """best.ckpt (averaged weights, the best on validation seeds) or last.ckpt (the newest ones)."""
    rollouts: str = ""
    """Name or path of other recordings, whose validation episodes to take."""
    out: str = "study/docs/results/probe.md"
    """The Markdown file to write."""


def main() -> None:
    asked = read_settings(ProbeSettings, "python -m study.probe")
    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    lines: list[list[str]] = []
    runs = [Path(run) for run in dict.fromkeys(asked.runs)]
    with meter("probe", len(runs), "runs") as progress:
        for run in runs:
            lines += cells(run.name, measure(run, asked.checkpoint, asked.rollouts))
            progress.advance(1, run.name)
    text, path = f"{markdown(HEADER, lines)}\n\n{NOTES}", Path(asked.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    print(f"{text}\nwritten: {path}")


if __name__ == "__main__":
    run_command(main)
