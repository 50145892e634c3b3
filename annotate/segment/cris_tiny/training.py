"""The training of CRIS-tiny: scenes and a schedule in, weights out; it resumes from its checkpoint."""

from __future__ import annotations

import copy
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from zipfile import is_zipfile

import torch
from torch import Tensor
from torch.nn import functional

from semore.annotate.segment.cris_tiny.network import CrisTiny, Kernels, answer, embedding_at, meant
from semore.annotate.segment.cris_tiny.phrase_vocab import UNKNOWN, vocabulary
from semore.annotate.segment.cris_tiny.scenes import MAX_ACTORS, Scenes
from semore.annotate.segment.cris_tiny.training_batches import BatchMaker, TrainingBatch
from semore.datasets.atomic_io import write_bytes
from semore.datasets.errors import SemoreError
from semore.datasets.progress import meter

State = dict[str, Tensor]

SHARDS: Final = 2
"""Parts of a batch, one thread each."""
_WARM_UP: Final = 150  # steps
_DECLINE: Final = 0.6  # of the steps
_AVERAGING: Final = 0.998
_AREA: Final = 10.0  # pixels
_OUTLINES: Final = 4.0  # weight
_SENSES: Final = 4.0  # weight


@dataclass(frozen=True)
class Schedule:
    """The schedule of a training: seed, steps, frames per step, highest learning rate, steps between checkpoints."""

    seed: int
    steps: int
    batch: int
    lr: float
    save_every: int


class ParallelNetworks:
    """SHARDS networks with common parameters, each with a thread of its own and a part of every batch.

    The threads meet once per step, which wastes little where the cores have other work, and the sum of their gradients
    does not depend on the number of cores."""

    def __init__(self, network: CrisTiny, maker: BatchMaker) -> None:
        self.networks = [network, *(copy.deepcopy(network) for _ in range(SHARDS - 1))]
        for other in self.networks[1:]:
            for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
                theirs.data = mine.data
        self._maker = maker
        self._threads = ThreadPoolExecutor(SHARDS, initializer=torch.set_num_threads, initargs=(1,))

    def gradients(self, step: int) -> float:
        """Put the batch's gradients into the first network and the mean of all statistics into all; the mean loss."""
        losses = list(self._threads.map(self._share, range(SHARDS), [step] * SHARDS))
        with torch.no_grad():
            for parameters in zip(*(network.parameters() for network in self.networks), strict=True):
                for other in parameters[1:]:
                    parameters[0].grad.add_(other.grad)
            for buffers in zip(*(network.buffers() for network in self.networks), strict=True):
                if buffers[0].is_floating_point():
                    mean = torch.stack(buffers).mean(dim=0)
                    for buffer in buffers:
                        buffer.copy_(mean)
        return sum(losses) / SHARDS

    def _share(self, shard: int, step: int) -> float:
        network = self.networks[shard]
        batch = self._maker.batch(step * SHARDS + shard)
        loss = batch_loss(network, batch)
        network.zero_grad()
        (loss / SHARDS).backward()
        return loss.item()


def train(scenes: Scenes, schedule: Schedule, checkpoint: Path) -> State:
    """The averaged weights after `schedule.steps` steps. `checkpoint` is written every `save_every` steps and taken up
    again; the result is the same as without an interruption."""
    torch.manual_seed(schedule.seed)
    network = CrisTiny(UNKNOWN + 1 + len(vocabulary()))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), schedule.lr, weight_decay=0.01, fused=True)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    start = _take_up(checkpoint, schedule, network, optimiser, average)
    network.train()
    parallel = ParallelNetworks(network, BatchMaker(scenes, schedule.seed, schedule.batch // SHARDS))
    shown = 0.0
    with meter("train CRIS-tiny", schedule.steps, "steps", start) as progress:
        for step in range(start, schedule.steps):
            for group in optimiser.param_groups:
                group["lr"] = schedule.lr * _pace(step, schedule.steps)
            loss = parallel.gradients(step)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            _follow(average, network.state_dict(), min(_AVERAGING, (1 + step) / (10 + step)))
            shown = loss if step == start else 0.98 * shown + 0.02 * loss
            progress.advance(1, f"loss {shown:.3f}")
            if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps:
                _save(checkpoint, schedule, network, optimiser, average, step + 1)
    return average


def batch_loss(network: CrisTiny, batch: TrainingBatch) -> Tensor:
    """The loss of a batch: outlines, meanings, senses, and whole masks."""
    pixels, whole = network.pixels(batch.rgb)
    shape = batch.tokens.shape[:2]
    kernels = network.phrases(torch.cat([batch.tokens.flatten(0, 1), batch.words]))
    own = Kernels(*(part[: shape.numel()].unflatten(0, shape) for part in kernels))
    shared = Kernels(*(part[shape.numel() :] for part in kernels))
    on_actor = batch.actors.flatten(1).gather(1, batch.points) > 0
    embedding = embedding_at(pixels, batch.points)
    # Phrases speak of lanes: what stands where, and how the ego itself stands, in numbers, is the harder half of them.
    sensed = functional.smooth_l1_loss(network.sense(embedding)[on_actor], batch.senses[on_actor])
    return (
        outline_loss(pixels.outline, batch.actors)
        + meaning_loss(meant(embedding, shared), batch.meant, on_actor)
        + _SENSES * (sensed + functional.smooth_l1_loss(network.pose(whole), batch.pose))
        + mask_loss(answer(pixels, own), batch.truth)
    )


def outline_loss(found: Tensor, actors: Tensor) -> Tensor:
    """Cross-entropy of logits (B, H, W) against "shows an actor" (B, H, W, 0 for none): each actor weighs by the root
    of its size, and the background near actors as much as they do."""
    shown = (actors > 0).float()
    flat = actors.flatten(1)
    sizes = found.new_zeros((len(flat), MAX_ACTORS + 1)).scatter_add_(1, flat, torch.ones_like(found).flatten(1))
    weight = shown * sizes.clamp(min=1.0).rsqrt().gather(1, flat).view_as(shown)
    spread = functional.max_pool2d(weight[:, None], 7, 1, 3)[:, 0]
    weight = torch.where(actors > 0, weight, spread + 0.002)
    entropy = functional.binary_cross_entropy_with_logits(found, shown, weight, reduction="none").flatten(1).sum(dim=1)
    return (entropy / weight.flatten(1).sum(dim=1)).mean() * _OUTLINES


def meaning_loss(found: Tensor, meant: Tensor, counts: Tensor) -> Tensor:
    """Of logits (B, P, Q) that a phrase means what stands at a point, where the point `counts` (B, P): cross-entropy,
    summed over the phrases; and of the phrases that do mean it, that they stand out from the others."""
    entropy = functional.binary_cross_entropy_with_logits(found, meant, reduction="none").sum(dim=2)
    apart = found.logsumexp(dim=2) - found.masked_fill(meant == 0, -1e4).logsumexp(dim=2)
    both = entropy + torch.where(meant.any(dim=2), apart, 0.0)
    return (both * counts).sum() / counts.sum().clamp(min=1)


def mask_loss(found: Tensor, truth: Tensor) -> Tensor:
    """Mean over phrases of soft masks and truths (B, K, H, W): cross-entropy summed over the picture, per pixel of the
    object and a few more, so that small objects count; and 1 − soft IoU where there is an object."""
    found, truth = found.flatten(2), truth.flatten(2)
    area = truth.sum(dim=2)
    entropy = functional.binary_cross_entropy(found, truth, reduction="none").sum(dim=2)
    overlap = (found * truth).sum(dim=2)
    union = found.sum(dim=2) + area - overlap
    missed = torch.where(area > 0, 1.0 - overlap / (union + 1e-6), 0.0)
    return (entropy / (area + _AREA) + missed).mean()


def _pace(step: int, steps: int) -> float:
    """A short rise, a plateau, and a long straight way down."""
    return min(1.0, (step + 1) / _WARM_UP, (steps - step) / (_DECLINE * steps))


def _follow(average: State, current: State, keep: float) -> None:
    """Move the average a little towards the current weights; counters are copied."""
    for name, value in current.items():
        if value.is_floating_point():
            average[name].lerp_(value, 1.0 - keep)
        else:
            average[name].copy_(value)


def _save(
    path: Path, schedule: Schedule, network: CrisTiny, optimiser: torch.optim.Optimizer, average: State, step: int
) -> None:
    state = {
        "schedule": asdict(schedule), "step": step, "average": average,
        "network": network.state_dict(), "optimiser": optimiser.state_dict(),
    }  # fmt: skip
    whole = io.BytesIO()  # torch's own writer says nothing of what a full disk was short of
    torch.save(state, whole)
    write_bytes(path, whole.getbuffer())


def _take_up(
    path: Path, schedule: Schedule, network: CrisTiny, optimiser: torch.optim.Optimizer, average: State
) -> int:
    """Load the checkpoint, if there is one; returns how many steps are done."""
    if not path.is_file():
        return 0
    if not is_zipfile(path):
        raise SemoreError(f"{path} is not a whole checkpoint of CRIS-tiny; delete it to start anew")
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state["schedule"] != asdict(schedule):
        raise SemoreError(f"{path} belongs to other settings ({state['schedule']}); move it away to start anew")
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    for name, value in state["average"].items():
        average[name].copy_(value)
    return int(state["step"])
