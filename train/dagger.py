"""The expert's action at every decision, whoever drove: labels for the cloning term, as in DAgger."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from semore.collect.camera import Sight
from semore.collect.expert import FAST, Expert
from semore.datasets.frame_pool import rows_of
from semore.datasets.rollouts.store import Episode

CARE: Final = 4.0
"""Weight of a decision that other road users change: a twentieth of all."""
_CHANGED: Final = 0.3
"""How much of the pedal's range [−1, 1] they must change, or of the wheel's."""


def expert_actions(episode: Episode, frame_skip: int, sight: Sight | None = None) -> NDArray[np.float32]:
    """(decisions, 3) float32: steer and pedal in [−1, 1] that the driver, without noise and at FAST, would have chosen
    at each decision of the episode, from the recorded state; and what imitating that weighs: CARE where the same
    driver, ignoring everybody, would have done something else, 1 elsewhere. With a `sight`, whom that doesn't show
    counts for neither."""
    generator = np.random.default_rng(0)  # drawn from only for noise
    # Reward is distance: the rule-based driver's usual speed would hold back whoever sees its own.
    drivers = Expert(generator, cruise=FAST, sight=sight), Expert(generator, careful=False, cruise=FAST)
    arrays = episode.read("ego", "actors")
    infos = [{"ego": arrays["ego"][row], "actors": arrays["actors"][row]} for row in rows_of(episode, frame_skip)[:-1]]
    careful, blind = (np.stack([driver(info) for info in infos]) for driver in drivers)
    weight = np.where(np.abs(careful - blind).max(axis=1) > _CHANGED, CARE, 1.0)
    return np.column_stack([careful, weight]).astype(np.float32)
