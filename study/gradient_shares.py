"""Each loss's share of the gradient at each part of the encoder: who teaches the streams and the neck.

`python -m study.gradient_shares RUN …` takes a run's agent as a checkpoint has it and batches of the run's own buffer.
A loss's gradient is what doubling its weight adds to the gradient of the agent's own update, by the same random
numbers, and Q's is what is left: whatever the update is, its parts are measured as it weighs them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semore.datasets.atomic_io import write_text
from semore.datasets.command_line import SOME, read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import Batch
from semore.datasets.progress import meter
from semore.datasets.run_command import run_command
from semore.evaluate.table import markdown
from semore.train.agent import Agent
from semore.train.agent_settings import LossWeights
from semore.train.run_io import run_settings, trained_agent
from study.run_data import replay_of

Q: Final = "q"
CLONING: Final = "cloning"
NOTHING: Final = "–"
ROUNDING: Final = 1e-5
"""Of a part's whole gradient: what is smaller than that is taken for rounding, and for nothing."""
NOTES: Final = """\
Shares of the summed norms of the losses' weighted gradients, means over batches; behind the oblique stroke the cosine
between a loss's gradient and Q's. Parts that no loss reaches are left out.
"""

Gradient = dict[str, Tensor]
"""By part of the encoder: all its parameters' gradients, end to end."""


class Share(NamedTuple):
    """Of one loss at one part: mean norm over batches, its share of all losses' (NaN where none reaches the part), and
    the mean cosine with Q's gradient (NaN where one of both is zero)."""

    norm: float
    share: float
    cosine: float


def gradients(agent: Agent, batch: Batch, weights: LossWeights, seed: int = 0) -> dict[str, Gradient]:
    """By loss, as the update weighs them: its gradient at each part of the backbone and at the neck, before clipping.
    The agent stays as it is."""
    settings = replace(agent.settings, clip=math.inf)
    changes: dict[str, tuple[dict[str, Any], LossWeights]] = {
        name: ({f"{name}_weight": 2.0 * weight}, weights) for name, weight in settings.auxiliary_weights.items()
    }
    if weights.clones and weights.cloning_shapes_encoder:
        changes[CLONING] = ({}, replace(weights, cloning=2.0 * weights.cloning))
    whole = _descended(agent, settings, batch, weights, seed)
    found: dict[str, Gradient] = {}
    for name, (doubled, schedule) in changes.items():
        more = _descended(agent, replace(settings, **doubled), batch, schedule, seed)
        found[name] = {part: _beyond_rounding(more[part] - gradient, gradient) for part, gradient in whole.items()}
    rest = {
        part: _beyond_rounding(sum((-each[part] for each in found.values()), start=gradient), gradient)
        for part, gradient in whole.items()
    }
    return {Q: rest, **found}


def _beyond_rounding(gradient: Tensor, whole: Tensor) -> Tensor:
    return gradient if gradient.norm() > ROUNDING * whole.norm() else torch.zeros_like(gradient)


def _descended(agent: Agent, settings: Any, batch: Batch, weights: LossWeights, seed: int) -> Gradient:
    """What the critic side's optimiser was given when a copy of the agent did an update under these settings."""
    own = copy.deepcopy(agent)
    own.settings = settings
    found: Gradient = {}

    def note(*_: object) -> None:
        for name, parameters in _parts(own):
            found[name] = torch.cat([parameter.grad.flatten().clone() for parameter in parameters])

    own.critic_optimizer.register_step_pre_hook(note)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own.update(batch, weights)
    return found


def _parts(agent: Agent) -> Iterator[tuple[str, list[Any]]]:
    """The backbone's own parts by name, and the neck, each with its parameters."""
    parts = {**dict(agent.backbone.named_children()), "neck": agent.neck}
    for name, module in parts.items():
        parameters = list(module.parameters())
        if parameters:
            yield name, parameters


def shares(agent: Agent, draw: Callable[[], Batch], weights: LossWeights, batches: int) -> dict[str, dict[str, Share]]:
    """By part, then by loss, over so many batches."""
    norms: dict[str, dict[str, list[float]]] = {}
    cosines: dict[str, dict[str, list[float]]] = {}
    for number in range(batches):
        found = gradients(agent, draw(), weights, seed=number)
        for loss, parts in found.items():
            for part, gradient in parts.items():
                norms.setdefault(part, {}).setdefault(loss, []).append(gradient.norm().item())
                cosines.setdefault(part, {}).setdefault(loss, []).append(_cosine(gradient, found[Q][part]))
    means = {part: {loss: float(np.mean(each)) for loss, each in own.items()} for part, own in norms.items()}
    return {
        part: {
            loss: Share(norm, norm / sum(own.values()) if sum(own.values()) else math.nan, _mean(cosines[part][loss]))
            for loss, norm in own.items()
        }
        for part, own in means.items()
    }  # fmt: skip


def _cosine(one: Tensor, other: Tensor) -> float:
    size = (one.norm() * other.norm()).item()
    return torch.dot(one, other).item() / size if size else math.nan


def _mean(values: Sequence[float]) -> float:
    known: NDArray[np.float64] = np.array([value for value in values if not math.isnan(value)])
    return float(known.mean()) if len(known) else math.nan


def measure(run: Path, checkpoint: str, batches: int, rollouts: str = "") -> dict[str, dict[str, Share]]:
    """The shares of a run, weighed as at the checkpoint's update. SemoreError when the run learns no Q."""
    settings, agent = run_settings(run), trained_agent(run, checkpoint)
    if not isinstance(agent, Agent):
        raise SemoreError(f"{run}: its agent has one loss (agent.objective cloning); choose a run that learns Q")
    replay = replay_of(run, settings, rollouts)
    weights = settings.schedule.weights(agent.updates)
    return shares(agent.train(), lambda: replay.sample(settings.schedule.batch), weights, batches)


def rows(run: str, found: Mapping[str, Mapping[str, Share]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of a run's table: a line per part, a column per loss."""
    losses = list(next(iter(found.values())))
    lines = [
        [run, part, *(_cell(own[loss], loss) for loss in losses)]
        for part, own in found.items() if not math.isnan(own[Q].share)
    ]  # fmt: skip
    return ["run", "part", *losses], lines


def _cell(share: Share, loss: str) -> str:
    cosine = "" if loss == Q else f" / {NOTHING if math.isnan(share.cosine) else format(share.cosine, '+.2f')}"
    return f"{share.share:.0%} ({share.norm:.2g}){cosine}"


@dataclass(frozen=True)
class GradientSharesSettings:
    """Whose losses to look at, and where to write."""

    runs: tuple[str, ...] = field(metadata=SOME)
    """Folders of runs with a checkpoint, finished or under way."""
    checkpoint: str = "last.ckpt"
    """last.ckpt (the newest weights) or best.ckpt (averaged weights, the best on validation seeds)."""
    batches: int = 32
    """Batches of the run's own size to take means over."""
    rollouts: str = ""
    """Name or path of the recordings of the runs, where those have moved."""
    out: str = "study/docs/results/gradient-shares.md"
    """The Markdown file to write."""


def main() -> None:
    asked = read_settings(GradientSharesSettings, "python -m study.gradient_shares")
    if asked.batches < 1:
        raise SemoreError(f"--batches {asked.batches} must be at least 1")
    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    tables: dict[tuple[str, ...], list[list[str]]] = {}
    runs = [Path(run) for run in dict.fromkeys(asked.runs)]
    with meter("gradient shares", len(runs), "runs") as progress:
        for run in runs:
            header, lines = rows(run.name, measure(run, asked.checkpoint, asked.batches, asked.rollouts))
            tables.setdefault(tuple(header), []).extend(lines)
            progress.advance(1, run.name)
    text = "\n\n".join([*(markdown(header, lines) for header, lines in tables.items()), NOTES])
    path = Path(asked.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    print(f"{text}\nwritten: {path}")


if __name__ == "__main__":
    run_command(main)
