"""Value health: what a run's critics say of each decision beside the return that followed it.

`python -m study.value_health RUN …` drives the mean action on validation seeds that no run has used, and writes a table
and a picture. Q is min(Q1, Q2) of the action taken. A right Q has slope 1 and a bias near 0; the bias also holds what
SAC's entropy term adds to Q and no return has, about α·(−log π)/(1 − γ)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from semore.collect.env import COLLISION_LIMIT
from semore.collect.policies import Action, Info
from semore.collect.rollout import drive
from semore.datasets.atomic_io import atomic_file, write_text
from semore.datasets.command_line import SOME, read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.progress import meter
from semore.datasets.resize import GREY
from semore.datasets.rollouts.schema import DT
from semore.datasets.run_command import run_command
from semore.evaluate.table import markdown
from semore.train.agent import Agent
from semore.train.online import EnvPool, World
from semore.train.pictures import stacked
from semore.train.run_io import run_settings, trained_agent
from semore.train.validation import VALIDATION_SEEDS
from study.nearest import nearest_now

matplotlib.use("agg")

FIRST_SEED: Final = VALIDATION_SEEDS + 10_000
"""Validation seeds from here on choose no checkpoint."""
TOGETHER: Final = 8
"""Episodes driven in lockstep."""
HORIZON: Final = 3.0
"""A decision before a time-out counts when at least HORIZON/(1 − γ) decisions follow it: what was cut off weighs less
than e^−3 = 5 % of a return then."""
FREE: Final = 15.0
"""A road is free when no key object in view is nearer (m): what a careful driver needs to see."""
SECOND: Final = round(1.0 / DT)
"""Simulator steps in a second."""
HEADER: Final = (
    "run", "scenario", "updates", "α", "γ", "episodes", "decisions (left out)", "mean Q", "mean return", "correlation",
    "slope", "bias", "collisions", "Q before one (return)", "Q on a free road (return)",
)  # fmt: skip
NOTES: Final = f"""\
*Slope*: of the return on Q, 1 where Q is right; *bias*: mean Q less mean return. Left out are decisions too close to a
time-out for their return to be known. *Before one*: the decisions in the second before the collision that ended an
episode began; *free road*: earlier ones of the same episodes with no key object in view within {FREE:.0f} m.
"""


@dataclass(frozen=True, eq=False)
class Drive:
    """An episode of D decisions: q (D,); reward (D,), mean over a decision's simulator steps as in training; step (D,),
    simulator steps done when it was made; free (D,) bool, no key object within FREE; the episode's steps and ending."""

    q: NDArray[np.float64]
    reward: NDArray[np.float64]
    step: NDArray[np.int64]
    free: NDArray[np.bool_]
    steps: int
    ending: str

    def returns(self, gamma: float) -> NDArray[np.float64]:
        """(D,) Σ γ^k·r of what followed, up to the episode's end."""
        found, following = np.zeros(len(self.reward)), 0.0
        for place in reversed(range(len(found))):
            found[place] = following = self.reward[place] + gamma * following
        return found

    def settled(self, gamma: float) -> NDArray[np.bool_]:
        """(D,) whose return is known: all when the episode ended in a terminal, else those that HORIZON allows."""
        left = len(self.q) - np.arange(len(self.q))
        return (left * (1.0 - gamma) >= HORIZON) | (self.ending != "success")

    @property
    def collided(self) -> bool:
        """Whether a collision has ended it."""
        return self.ending == "collisions"

    @property
    def before_collision(self) -> NDArray[np.bool_]:
        """(D,) decisions in the second before the collision that ended the episode began."""
        return self.collided & (self.step < self._began) & (self.step >= self._began - SECOND)

    @property
    def on_free_road(self) -> NDArray[np.bool_]:
        """(D,) earlier decisions on a free road, in an episode that a collision has ended."""
        return self.collided & self.free & (self.step < self._began - SECOND)

    @property
    def _began(self) -> int:
        """The step of the first contact: COLLISION_LIMIT of them in a row end an episode."""
        return self.steps - COLLISION_LIMIT


class ValuedPolicy:
    """The agent's mean action as a policy that notes what the critics think of it. SemoreError without critics."""

    def __init__(self, run: Path, checkpoint: str, grey: bool) -> None:
        agent = trained_agent(run, checkpoint)
        if not isinstance(agent, Agent):
            raise SemoreError(f"{run}: its agent has no critics (agent.objective cloning); choose a run that learns Q")
        self.agent, self._grey = agent, grey
        self._seeds: Sequence[int] = ()
        self._noted: dict[int, list[tuple[float, float, int, bool]]] = {}

    def start(self, seeds: Sequence[int]) -> None:
        self._seeds = list(seeds)
        self._noted |= {seed: [] for seed in seeds}  # of an episode that was lost nothing stays

    @torch.inference_mode()
    def act(self, slots: Sequence[int], observations: NDArray[np.uint8], infos: Sequence[Info]) -> Action:
        seen = torch.from_numpy(np.full_like(observations, GREY) if self._grey else observations)
        action, q = mean_and_value(self.agent, seen)
        for slot, value, info in zip(slots, q.tolist(), infos, strict=True):
            so_far, free = info["metrics"], not nearest_now(info).distance[0] <= FREE
            self._noted[self._seeds[slot]].append((value, so_far["reward"], so_far["steps"], free))
        taken: Action = action.numpy()
        return taken

    def driven(self, seed: int, end: Info) -> Drive:
        """What was noted of an episode that ended with this info."""
        q, reward, step, free = map(np.array, zip(*self._noted.pop(seed), strict=True))
        total = np.diff(np.append(reward, end["metrics"]["reward"]))
        steps = int(end["metrics"]["steps"])
        return Drive(q, total / np.diff(np.append(step, steps)), step, free, steps, str(end["ending"]))


def mean_and_value(agent: Agent, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean action (B, 2) and min(Q1, Q2) of it (B,) for observations (B, 9, S, S) uint8."""
    features = agent.backbone(*agent.backbone.inputs(stacked(observation), 2))
    action = torch.tanh(agent.policy(features)[0])
    za = torch.cat([agent.neck(features).fused, action], 1)
    return action, torch.minimum(agent.q1(za), agent.q2(za))[:, 0]


@dataclass(frozen=True, eq=False)
class Health:
    """The pairs of a run: q and returns (M,) of the decisions whose return is known, and whether they are before a
    collision or, in an episode that ended in one, on a free road; how many were left out."""

    run: str
    scenario: str
    updates: int
    alpha: float
    gamma: float
    episodes: int
    collisions: int
    left_out: int
    q: NDArray[np.float64]
    returns: NDArray[np.float64]
    before: NDArray[np.bool_]
    free: NDArray[np.bool_]

    @property
    def correlation(self) -> float:
        """Of Q and return; NaN where one of them does not vary."""
        varies = len(self.q) > 1 and self.q.std() > 0 and self.returns.std() > 0
        return float(np.corrcoef(self.q, self.returns)[0, 1]) if varies else math.nan

    @property
    def slope(self) -> float:
        """Of the return on Q: the least-squares line's."""
        return self.correlation * float(self.returns.std() / self.q.std()) if self.q.std() > 0 else math.nan

    @property
    def bias(self) -> float:
        """Mean Q less mean return."""
        return float((self.q - self.returns).mean())

    def cells(self) -> list[str]:
        """Of HEADER."""
        return [
            self.run, self.scenario, f"{self.updates:,}", f"{self.alpha:.4f}", f"{self.gamma:g}", str(self.episodes),
            f"{len(self.q):,} ({self.left_out:,})", f"{self.q.mean():.2f}", f"{self.returns.mean():.2f}",
            f"{self.correlation:.2f}", f"{self.slope:.2f}", f"{self.bias:+.2f}", str(self.collisions),
            self._of(self.before), self._of(self.free),
        ]  # fmt: skip

    def _of(self, chosen: NDArray[np.bool_]) -> str:
        return f"{self.q[chosen].mean():.2f} ({self.returns[chosen].mean():.2f})" if chosen.any() else "–"


def measure(run: Path, checkpoint: str, seeds: Sequence[int]) -> Health:
    """Drive the seeds and compare. SemoreError when the run has no critics, or no return of it is known."""
    settings = run_settings(run)
    policy = ValuedPolicy(run, checkpoint, settings.grey)
    with closing(EnvPool(World.of(settings), 1)) as fleet:
        envs = fleet.envs(min(TOGETHER, len(seeds)))
        drives = [policy.driven(seed, end) for seed, end in drive(envs, policy, seeds)]
    gamma = settings.agent.gamma
    known = [each.settled(gamma) for each in drives]
    if not any(own.any() for own in known):
        raise SemoreError(
            f"{run}: every episode timed out before {HORIZON:g}/(1 − γ) decisions at γ {gamma:g}, so that no return is "
            "known; drive more --episodes, or a run with a smaller agent.gamma"
        )

    def joined(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([part[own] for part, own in zip(parts, known, strict=True)])

    return Health(
        run.name, settings.scenario, policy.agent.updates, policy.agent.log_alpha.exp().item(), gamma, len(drives),
        sum(each.collided for each in drives), sum(len(own) - int(own.sum()) for own in known),
        joined(each.q for each in drives), joined(each.returns(gamma) for each in drives),
        joined(each.before_collision for each in drives), joined(each.on_free_road for each in drives),
    )  # fmt: skip


def draw(healths: Sequence[Health], path: Path) -> None:
    """Write the picture: a panel per run, Q over the return that followed, with the line on which a right Q lies."""
    across = min(len(healths), 4)
    down = -(-len(healths) // across)
    figure = Figure(figsize=(3.6 * across, 3.4 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flat
    for health, axes in zip(healths, panels, strict=False):
        kinds: Mapping[str, tuple[Any, str]] = {
            "other decisions": (~health.before & ~health.free, "#9a9a9a"),
            "free road, same episodes": (health.free, "#0072b2"),
            "before the collision": (health.before, "#c1272d"),
        }
        for label, (chosen, color) in kinds.items():
            axes.plot(health.returns[chosen], health.q[chosen], ".", ms=3, alpha=0.5, color=color, label=label)
        low, high = (float(of([of(health.q), of(health.returns)])) for of in (np.min, np.max))
        axes.plot([low, high], [low, high], color="#333333", linewidth=0.9, linestyle=(0, (4, 3)))
        axes.set_title(f"{health.run}: r {health.correlation:.2f}, bias {health.bias:+.1f}", loc="left", fontsize=9)
        axes.set(xlabel="discounted return that followed", ylabel="Q")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in list(panels):
        axes.set_axis_off()
    figure.axes[0].legend(frameon=False, fontsize=7, markerscale=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})


@dataclass(frozen=True)
class ValueHealthSettings:
    """Whose critics to look at, and where to write."""

    runs: tuple[str, ...] = field(metadata=SOME)
    """Folders of runs with a checkpoint, finished or under way."""
    checkpoint: str = "best.ckpt"
    """best.ckpt (averaged weights, the best on validation seeds) or last.ckpt (the newest ones)."""
    episodes: int = 24
    """Validation seeds to drive, the same for each run."""
    out: str = "study/docs/results/value-health"
    """Prefix of the files to write: <out>.md and <out>.png."""


def main() -> None:
    asked = read_settings(ValueHealthSettings, "python -m study.value_health")
    if asked.episodes < 1:
        raise SemoreError(f"--episodes {asked.episodes} must be at least 1")
    torch.set_num_threads(1)  # the networks are small: a second thread only waits
    healths = []
    runs = [Path(run) for run in dict.fromkeys(asked.runs)]
    with meter("value health", len(runs), "runs") as progress:
        for run in runs:
            healths.append(measure(run, asked.checkpoint, range(FIRST_SEED, FIRST_SEED + asked.episodes)))
            progress.advance(1, run.name)
    text = f"{markdown(HEADER, [health.cells() for health in healths])}\n\n{NOTES}"
    image, table = (Path(f"{asked.out}.{ending}") for ending in ("png", "md"))
    draw(healths, image)
    write_text(table, text)
    print(f"{text}\nwritten: {table}, {image}")


if __name__ == "__main__":
    run_command(main)
