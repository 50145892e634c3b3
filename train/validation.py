"""Validation: the averaged agent drives held-out seeds, and the best one by reward is what the run exports."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
from torch import Tensor

from semore.datasets.frame_pool import FramePool
from semore.datasets.rollouts.schema import SEED_SPLITS
from semore.train.actor import Actor
from semore.train.course import AfterUpdate, Averaging, Entry, Say
from semore.train.held_out import HeldOut
from semore.train.settings import ScheduleSettings

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
        actor: Actor,
        save_best: Callable[[dict[str, Any]], None],
        say: Say,
    ) -> None:
        """`save_best` is given the agent's part of best.ckpt whenever there is a better one."""
        super().__init__(averaging.agent)
        self._averaging, self._trained_on, self._held_out, self._schedule = averaging, trained_on, held_out, schedule
        self._actor, self._save_best, self._say = actor, save_best, say
        self.best_reward = float("-inf")
        self.best_update = 0
        self.best_weights: dict[str, Tensor] = {}

    def after(self, update: int) -> Iterable[Entry]:
        if not self._schedule.validates(update):
            return
        agent, count = self._averaging.mean, self._schedule.validate_episodes
        ends = self._actor.drive(agent, range(VALIDATION_SEEDS, VALIDATION_SEEDS + count))
        means = {f"validation/{key}": float(np.mean([end[key] for end in ends])) for key in MEASURED}
        reward = means["validation/reward"]
        if reward > self.best_reward or not self.best_weights:
            self.best_reward, self.best_update = reward, update
            self.best_weights = copy.deepcopy({name: value.cpu() for name, value in agent.state_dict().items()})
            self._save_best({"weights": self.best_weights, "updates": update, "reward": reward})
        # The interval takes seconds, and waits for the end.
        quality, text = self._held_out.quality(agent, self._trained_on, resamples=0), ""
        if quality is not None:
            means |= {"health/student_auc": quality.student, "health/constant_auc": quality.constant}
            text = f", student mask AUC {quality.student:.3f} (constant map {quality.constant:.3f})"
        self._say(
            f"update {update}: validation reward {reward:.1f}, distance {means['validation/distance']:.0f} m, "
            f"crash intensity {means['validation/crash_intensity']:.0f} N·s{text}"
        )
        yield Entry(update, means)

    def state_dict(self) -> dict[str, Any]:
        return {"best_reward": self.best_reward, "best_update": self.best_update, "best_weights": self.best_weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_reward, self.best_update = state_dict["best_reward"], state_dict["best_update"]
        self.best_weights = state_dict["best_weights"]
