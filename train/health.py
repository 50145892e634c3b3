"""Health checks: constant mask, dead stream or gate, exploding Q, starved buffer, zigzag (design.md §7.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from semore.datasets.frame_pool import FramePool
from semore.train.attention import CrossAttention
from semore.train.learner import Learner
from semore.train.pictures import stacked
from semore.train.student import watched

CONSTANT_MASK: Final = 0.01
DEAD_STREAM: Final = 0.05
DEAD_GATE: Final = 1e-4
EXPLODED: Final = 2.0
"""Times the largest value that rewards allow."""
STARVED: Final = 0.25
"""Admit rate of the newest decisions."""
ZIGZAG: Final = 0.5
"""Mean change of steering (of −1 … 1) from one decision to the next."""
DRIVEN: Final = 500
"""Newest decisions of the policy whose steering is looked at."""
PATIENCE: Final = 500
"""Updates before a flat mask or a closed gate is called so: both begin that way."""


@torch.no_grad()
def vital_signs(agent: Learner, observation: Tensor) -> dict[str, float]:
    """Shares of live units (positive for at least one sample) of both streams, the spread of the student's mask over
    samples and cells, and the gates; for observations (B,9,S,S) uint8."""
    inputs, streams = agent.backbone.inputs(stacked(observation), 2), agent.backbone.streams()
    maps = {name: stream(seen) for (name, stream), seen in zip(streams.items(), inputs, strict=True)}
    signs = {f"health/live_{name}": (seen > 0).any(0).float().mean().item() for name, seen in maps.items()}
    if agent.teaches_mask:
        student = watched(next(iter(streams.values())), agent.backbone.student_head, inputs[0])[1].sigmoid()
        signs |= {"health/student_std": student.std().item(), "health/student_mean": student.mean().item()}
    if isinstance(agent.backbone.attention, CrossAttention):
        gates = agent.backbone.attention.gates.tolist()
        signs |= {"health/gate_motion": gates[0], "health/gate_known": gates[1]}
    return signs


def driving_signs(pool: FramePool, gamma: float) -> dict[str, float]:
    """The largest |Q| that the rewards held allow, max |r| / (1 − γ), and how restless the newest steering is."""
    held = pool.reward[: pool.size].abs().max().item() if pool.size else 0.0
    newest = slice(max(pool.size - DRIVEN, 0), pool.size)
    acted = pool.start[newest].diff() == 0  # an episode's last frame saw no action
    change = pool.action[newest, 0].diff().abs()[:-1][acted[:-1] & acted[1:]]
    return {
        "health/q_bound": held / max(1.0 - gamma, 1e-6),
        "health/steering_change": change.mean().item() if len(change) else 0.0,
    }


def complaints(signs: dict[str, float], updates: int, mask_apart: bool = False) -> list[str]:
    """What is wrong, by name, with what to do; empty when all is well. `signs` are those of vital_signs and
    driving_signs, and the log entry they belong to; what is missing is not judged. `mask_apart` says that the mask
    reaches z beside the attention, whose gates may then be closed."""
    found = []
    if updates >= PATIENCE and (spread := signs.get("health/student_std", 1.0)) < CONSTANT_MASK:
        found.append(
            f"constant student mask: its standard deviation is {spread:.4f} (< {CONSTANT_MASK}); "
            "check that masks are not all empty, or choose --agent.semantic_loss balanced_bce"
        )
    for stream in ("semantic", "motion", "single"):
        if (share := signs.get(f"health/live_{stream}", 1.0)) < DEAD_STREAM:
            found.append(
                f"dead stream: only {share:.1%} of the {stream} stream's units are live (< {DEAD_STREAM:.0%}); "
                "lower --agent.lr or start with another --seed"
            )
    gates = [value for name, value in signs.items() if "gate" in name]
    if gates and not mask_apart and updates >= PATIENCE and max(map(abs, gates)) < DEAD_GATE:
        found.append(
            f"dead gate: both attention gates are below {DEAD_GATE} after {updates} updates; no mask reaches "
            "the policy; choose --agent.encoder.mask_path concat"
        )
    found += _of_learning(signs)
    return found


def _of_learning(signs: dict[str, float]) -> list[str]:
    found = []
    q, bound = signs.get("loss/target_q_max", 0.0), signs.get("health/q_bound", np.inf)
    if bound > 0 and not q <= EXPLODED * bound:  # not a number either
        found.append(
            f"exploding Q: targets reach {q:.0f}, rewards allow {bound:.0f}; lower --agent.lr or --agent.tau, or "
            "refresh more often (--schedule.refresh_every)"
        )
    if signs.get("replay/delta", 0.0) > 0.5 and signs.get("replay/admit_rate_newest", 1.0) < STARVED:
        found.append(
            f"starved buffer: the filter admits {signs['replay/admit_rate_newest']:.0%} of the newest decisions while "
            "δ is above 0.5; soften it (--replay.filter_steps, --replay.admission off) or look at the verdicts"
        )
    if (change := signs.get("health/steering_change", 0.0)) > ZIGZAG:
        found.append(
            f"zigzag steering: it changes by {change:.2f} from one decision to the next (> {ZIGZAG}); lower "
            "--agent.target_entropy or record smoother drivers"
        )
    return found


@dataclass(frozen=True)
class MaskQuality:
    """AUC per cell of the student's mask and of the constant map, and the 95% interval of their difference."""

    student: float
    constant: float
    low: float
    high: float
    frames: int
    episodes: int

    @property
    def healthy(self) -> bool:
        """Ahead of the constant by at least 0.05, with the interval above 0 (design.md §7.3)."""
        return self.student - self.constant >= 0.05 and self.low > 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "student_auc": self.student, "constant_auc": self.constant, "difference_low": self.low,
            "difference_high": self.high, "frames": self.frames, "episodes": self.episodes, "healthy": self.healthy,
        }  # fmt: skip


def mask_quality(
    student: NDArray[np.float32],
    truth: NDArray[np.float32],
    constant: NDArray[np.float32],
    episode: NDArray[np.int64],
    seed: int = 0,
    resamples: int = 200,
) -> MaskQuality | None:
    """Compare student masks (N,g,g) with the constant map (g,g) of training means, on truth (N,g,g) in [0,1].

    Only frames with at least one positive cell (truth > 0.5) count; the interval is a bootstrap over the episodes
    `episode` (N,), NaN without `resamples`. None when no frame has a positive cell.
    """  # fmt: skip
    positive = truth > 0.5
    keep = positive.any((1, 2))
    if not keep.any():
        return None
    positive, student, episode = positive[keep], student[keep], episode[keep]
    names = np.unique(episode)
    rows = {name: np.flatnonzero(episode == name) for name in names}
    fixed = np.broadcast_to(constant, student.shape)
    generator = np.random.default_rng(seed)
    differences = []
    for _ in range(resamples):
        drawn = np.concatenate([rows[name] for name in generator.choice(names, len(names))])
        differences.append(auc(student[drawn], positive[drawn]) - auc(fixed[drawn], positive[drawn]))
    low, high = np.quantile(differences, (0.025, 0.975)) if differences else (np.nan, np.nan)
    return MaskQuality(auc(student, positive), auc(fixed, positive), float(low), float(high), len(student), len(names))


def auc(score: NDArray[np.float32], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve over all cells: the chance that a positive cell outranks a negative one, ties half."""
    flat = positive.ravel()
    count = int(flat.sum())
    if count in (0, flat.size):
        return 0.5
    ranks = rankdata(score.ravel())[flat].sum()
    return float((ranks - count * (count + 1) / 2) / (count * (flat.size - count)))
