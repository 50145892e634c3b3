"""Validation: the averaged agent drives held-out seeds, and the best one by reward is what the run exports."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from torch import Tensor

from semore.datasets.frame_pool import FramePool
from semore.datasets.rollouts.schema import SEED_SPLITS
from semore.train.actor import Ends, Job, in_shares, snapshot
from semore.train.course import AfterUpdate, Averaging, Entry, Say
from semore.train.crew import Crew
from semore.train.errands import Errands
from semore.train.held_out import HeldOut
from semore.train.learner import Learner
from semore.train.schedule import ScheduleSettings

VALIDATION_SEEDS: Final = SEED_SPLITS["validation"].start + 1_000
"""Validation drives start here, beyond the recorded validation episodes."""
MEASURED: Final = ("reward", "distance", "crash_intensity", "steer", "brake")
"""Means over the validation seeds: distance in m, crash intensity in N·s."""


class Validation(AfterUpdate):
    """Drive the averaged agent: single iterates swing by half the reward within a few hundred updates."""

    def __init__(
        self,
        averaging: Averaging,
        trained_on: FramePool,
        held_out: HeldOut,
        schedule: ScheduleSettings,
        crew: Crew,
        save_best: Callable[[dict[str, Any]], None],
        say: Say,
    ) -> None:
        """`save_best` is given the agent's part of best.ckpt whenever there is a better one."""
        super().__init__(averaging.agent)
        self._averaging, self._trained_on, self._held_out, self._schedule = averaging, trained_on, held_out, schedule
        self._errands, self._save_best, self._say = Errands(crew, schedule), save_best, say
        self.best_reward = float("-inf")
        self.best_update = 0
        self.best_weights: dict[str, Tensor] = {}

    def after(self, update: int) -> Iterable[Entry]:
        schedule = self._schedule
        if schedule.validates(update):
            agent, seeds = self._averaging.mean, range(VALIDATION_SEEDS, VALIDATION_SEEDS + schedule.validate_episodes)
            weights = snapshot(agent)
            jobs = [Job(weights, tuple(share), records=False) for share, _ in in_shares(seeds, 0, schedule.shares)]
            whole = copy.deepcopy({name: value.cpu() for name, value in agent.state_dict().items()})
            self._errands.send(update, jobs, {"weights": whole, "signs": self._signs(agent)})
        for errand, ends in self._errands.home(update):
            found = measured(ends)
            self._compare(errand.update, found["validation/reward"], errand.kept["weights"])
            self._tell(errand.update, found | errand.kept["signs"])
            yield Entry(errand.update, found | errand.kept["signs"])

    def state_dict(self) -> dict[str, Any]:
        best = {"best_reward": self.best_reward, "best_update": self.best_update, "best_weights": self.best_weights}
        return {**best, "pending": self._errands.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_reward, self.best_update = state_dict["best_reward"], state_dict["best_update"]
        self.best_weights = state_dict["best_weights"]
        self._errands.restore(state_dict["pending"])

    def _compare(self, update: int, reward: float, weights: dict[str, Tensor]) -> None:
        """Keep the agent of that update if it is the best one so far."""
        if reward > self.best_reward or not self.best_weights:
            self.best_reward, self.best_update, self.best_weights = reward, update, weights
            self._save_best({"weights": weights, "updates": update, "reward": reward})

    def _signs(self, agent: Learner) -> dict[str, float]:
        """How well its student's mask finds what it should; the interval takes seconds, and waits for the run's end."""
        quality = self._held_out.quality(agent, self._trained_on, resamples=0)
        return {"health/student_auc": quality.student, "health/constant_auc": quality.constant} if quality else {}

    def _tell(self, update: int, found: dict[str, float]) -> None:
        text = (
            f"update {update}: validation reward {found['validation/reward']:.1f}, distance "
            f"{found['validation/distance']:.0f} m, crash intensity {found['validation/crash_intensity']:.0f} N·s"
        )
        if "health/student_auc" in found:
            student, constant = found["health/student_auc"], found["health/constant_auc"]
            text += f", student mask AUC {student:.3f} (constant map {constant:.3f})"
        self._say(text)


def measured(ends: Ends) -> dict[str, float]:
    """What the log is told of the episodes of a validation: means of MEASURED, the standard deviation of the reward,
    the share of episodes whose ending is `collisions`, and by how much the steering changes from one decision to the
    next, a mean over all decisions of all episodes."""
    found = {key: float(np.mean([end[key] for end in ends])) for key in MEASURED}
    found["reward_std"] = float(np.std([end["reward"] for end in ends]))
    found["collisions"] = float(np.mean([end["ending"] == "collisions" for end in ends]))
    changes = np.concatenate([np.abs(np.diff(end["steers"])) for end in ends])
    found["steer_change"] = float(changes.mean()) if len(changes) else 0.0
    return {f"validation/{key}": value for key, value in found.items()}
