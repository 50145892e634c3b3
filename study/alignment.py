"""Mask alignment on held-out frames: H_ka, the student's mask and the attention against the truth.

`python -m study.alignment --runs RUN …`: the picture shows the first run of each scenario, the table all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from semore.annotate.audit.frames import read_frames
from semore.annotate.audit.metrics import Overlap
from semore.annotate.oracle.rules import MIN_PIXELS
from semore.collect.policies import load_policy
from semore.datasets.atomic_io import read_json, write_csv
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import rows_of
from semore.datasets.hints import command, recordings
from semore.datasets.knowledge.cache import KnowledgeCache, KnowledgeSet, open_set, read_pins
from semore.datasets.knowledge.merge import max_pool
from semore.datasets.names import rollouts_path
from semore.datasets.progress import meter
from semore.datasets.resize import shrink
from semore.datasets.rollouts.store import Episode, Rollouts
from semore.datasets.run_command import run_command
from semore.evaluate.counterfactual.policies import with_weights
from semore.evaluate.runs import metrics_of
from semore.train.agent import make_agent
from semore.train.attention import CrossAttention
from semore.train.encoder import DualStream
from semore.train.health import auc
from semore.train.pictures import stacked
from semore.train.run_io import run_settings
from semore.train.settings import TrainSettings
from study.alignment_picture import Panel, draw

THRESHOLD: Final = 0.5
"""A pixel is in H_ka above this, as in the audit."""
FULLNESS: Final = (1.0, 0.9, 0.7)
"""Of all frames with key objects, by the share of the picture that these fill: quantiles at which frames are shown."""


@dataclass(frozen=True)
class HeldOutFrames:
    """The N decision frames of the validation episodes, in order: rgb (N, H, W, 3) uint8; truth (N, H, W) bool and h_ka
    (N, H, W) uint8, zero where `valid` (N,) is False; seen (N, 9, S, S) uint8, what a policy is shown; episode (N,)."""

    rgb: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    h_ka: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    seen: NDArray[np.uint8]
    episode: NDArray[np.int64]


@dataclass(frozen=True)
class Alignment:
    """A run's masks in numbers. H_ka against the truth: by pixels, and as AUC per cell of its masks, as the student's
    and the constant map's (train.health.MaskQuality); the attention's gates at the end."""

    scenario: str
    run: str
    train_seed: int
    frames: int
    episodes: int
    iou: float
    precision: float
    recall: float
    h_ka_auc: float
    student_auc: float
    constant_auc: float
    difference_low: float
    difference_high: float
    gate_motion: float
    gate_known: float


def read_held_out(settings: TrainSettings, pins: Path, fingerprint: str, folder: Path) -> HeldOutFrames:
    """What a run of these settings was validated on; `folder` holds its rollouts. SemoreError when they are others."""
    rollouts = Rollouts(folder)
    episodes = [episode for episode in rollouts.episodes() if episode.attributes["split"] == "validation"]
    if rollouts.fingerprint() != fingerprint:
        raise SemoreError(f"{folder} is not what {pins.parent} was trained on; give its rollouts as --rollouts PATH")
    knowledge = open_set(KnowledgeCache(Path(settings.data) / "knowledge", read_pins(pins)), settings.knowledge)
    parts = [_frames(settings, knowledge, episode, number) for number, episode in enumerate(episodes)]
    if not parts:
        made = command("collect", recordings(settings) | {"rollouts": folder, "validation_episodes": 10})
        raise SemoreError(f"{folder} has no validation episode; `{made}` records some")
    names = HeldOutFrames.__dataclass_fields__
    return HeldOutFrames(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _frames(settings: TrainSettings, knowledge: KnowledgeSet, episode: Episode, number: int) -> HeldOutFrames:
    rows = rows_of(episode, settings.frame_skip)
    parts = list(read_frames(knowledge, episode, rows))
    rgb, truth, h_ka = (
        np.concatenate(arrays)
        for arrays in zip(*((part.batch.rgb, part.truth.mask, part.h_ka) for part in parts), strict=True)
    )
    valid = np.concatenate([part.valid & part.truth.known for part in parts])
    small = shrink(rgb.transpose(0, 3, 1, 2), settings.agent.encoder.size)
    window = np.maximum(np.arange(len(rows))[:, None] + np.array([-2, -1, 0]), 0)  # the first frame repeats
    seen = small[window].reshape(len(rows), 9, *small.shape[2:])
    return HeldOutFrames(rgb, truth, h_ka, valid, seen, np.full(len(rows), number))


def chosen(area: NDArray[np.int64], episode: NDArray[np.int64]) -> list[int]:
    """A frame for each of FULLNESS, fullest first, each from another episode while there are any, from the pixels
    (N,) of key objects in every frame and the episode (N,) it belongs to."""
    shown = np.flatnonzero(area >= MIN_PIXELS)
    taken: list[int] = []
    for share in FULLNESS[: len(shown)]:
        far = np.abs(area[shown] - np.quantile(area[shown], share))
        fresh = ~np.isin(episode[shown], episode[taken]) if taken else np.ones(len(shown), np.bool_)
        far[~fresh if fresh.any() else np.isin(shown, taken)] = np.inf
        taken.append(int(shown[far.argmin()]))
    return taken


@torch.no_grad()
def attention(run: Path, seen: NDArray[np.uint8], student: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """(B, g, g) in [0, 1], the brightest cell 1: where in its own mask the trained policy's motion stream looks. None
    without cross-attention."""
    agent = make_agent(run_settings(run).agent).eval()
    backbone = with_weights(agent, run).backbone
    if not isinstance(backbone, DualStream) or not isinstance(backbone.attention, CrossAttention):
        return None
    motion = backbone.motion_stream(backbone.inputs(stacked(torch.from_numpy(seen)), 2)[1])
    known = backbone.mask_encoder(torch.from_numpy(student)[:, None])
    looks: Tensor = backbone.attention.looks(motion, known).unflatten(1, known.shape[2:])
    shares: NDArray[np.float32] = (looks / looks.amax((1, 2), keepdim=True)).numpy()
    return shares


def measure(run: Path, settings: TrainSettings, held: HeldOutFrames, grid: int) -> Alignment:
    """The run's row of the table. SemoreError when no loss taught it a mask."""
    summary = read_json(run / "summary.json")
    quality = summary["student_mask"]
    if quality is None:
        raise SemoreError(f"{run}: no loss taught its student's mask; choose a run that learns one")
    overlap = Overlap()
    overlap.add(held.h_ka[held.valid] > 255 * THRESHOLD, held.truth[held.valid])
    cells = max_pool(held.truth.astype(np.uint8), grid) > 0
    full = cells.any((1, 2)) & held.valid
    logged = metrics_of(run)
    gates = [list(logged.get(f"health/gate_{name}", {0: np.nan}).values())[-1] for name in ("motion", "known")]
    return Alignment(
        settings.scenario, run.name, settings.seed, overlap.frames, int(held.episode.max()) + 1,
        overlap.iou, overlap.precision, overlap.recall,
        auc(max_pool(held.h_ka[full], grid).astype(np.float32), cells[full]),
        quality["student_auc"], quality["constant_auc"], quality["difference_low"], quality["difference_high"], *gates,
    )  # fmt: skip


def panels(run: Path, held: HeldOutFrames) -> list[Panel]:
    """The frames to show of a run."""
    index = chosen(held.truth.sum((1, 2)), held.episode)
    student = load_policy(run).student_mask(held.seen[index])
    looks = attention(run, held.seen[index], student)
    return [
        Panel(held.rgb[row], held.truth[row], held.h_ka[row], student[place], None if looks is None else looks[place])
        for place, row in enumerate(index)
    ]


def table(rows: list[Alignment]) -> Table:
    """For the terminal."""
    shown = Table(title="masks on held-out frames, against the simulator's truth")
    measures = ("H_ka IoU", "precision", "recall", "H_ka AUC", "student AUC", "constant AUC", "student − constant")
    for name in ("run", *measures):
        shown.add_column(name, justify="left" if name == "run" else "right")
    for row in rows:
        numbers = (row.iou, row.precision, row.recall, row.h_ka_auc, row.student_auc, row.constant_auc)
        interval = f"{row.difference_low:+.3f} … {row.difference_high:+.3f}"
        shown.add_row(row.run, *(f"{number:.3f}" for number in numbers), interval)
    return shown


@dataclass(frozen=True)
class AlignmentSettings:
    """Whose masks to look at, and where to write."""

    runs: tuple[str, ...] = ()
    """Folders of finished runs."""
    rollouts: str = ""
    """Path of the rollouts of the runs, where those have moved."""
    image: str = "docs/images/alignment.png"
    """The picture to write."""
    table: str = "study/docs/results/alignment.csv"
    """The CSV file to write."""


def main() -> None:
    asked = read_settings(AlignmentSettings, "python -m study.alignment")
    if not asked.runs:
        raise SemoreError("name at least one run: --runs RUN …")
    image, csv = Path(asked.image), Path(asked.table)
    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    rows: list[Alignment] = []
    blocks: dict[str, tuple[Alignment, list[Panel]]] = {}
    runs = [Path(run) for run in dict.fromkeys(asked.runs)]  # one may be named first and be in a pattern, too
    with meter("alignment", len(runs), "runs") as progress:
        for run in runs:
            settings, fingerprint = run_settings(run), read_json(run / "summary.json")["rollouts"]
            name = asked.rollouts or settings.rollouts
            folder = rollouts_path(settings.data, name, settings.scenario, settings.preset)
            held = read_held_out(settings, run / "knowledge_used.npy", fingerprint, folder)
            rows.append(measure(run, settings, held, settings.view.mask_side))
            if settings.scenario not in blocks:
                blocks[settings.scenario] = rows[-1], panels(run, held)
            progress.advance(1, run.name)
    draw([(_title(row), shown) for row, shown in blocks.values()], image)
    lines = [{key: _rounded(value) for key, value in asdict(row).items()} for row in rows]
    write_csv(csv, list(lines[0]), lines)
    Console(width=140).print(table(rows))
    print(f"written: {image}, {csv}\nnext: look at {image}")


def _title(row: Alignment) -> tuple[str, str]:
    student = f"student AUC {row.student_auc:.3f}, constant map {row.constant_auc:.3f}"
    return row.scenario, f"H_ka IoU {row.iou:.2f}, AUC {row.h_ka_auc:.3f}; {student}"


def _rounded(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else value


if __name__ == "__main__":
    run_command(main)
