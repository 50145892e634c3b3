"""n-step returns: what the critic's target is made of, over several decisions of one episode."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def n_step_returns(
    reward_T: NDArray[np.float32], not_done_T: NDArray[np.float32], steps: int, discount: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of each of an episode's T decisions: Σ γ^k·r over the next `steps` of them, and what the value of the state after
    them counts.

    That is γ^m for m decisions, and 0 where one of them ended the episode (`not_done` 0). At an episode's end there are
    fewer than `steps`: a time-out is bootstrapped from the last state there is, and no window reaches into another
    episode.
    """
    count, gamma = len(reward_T), np.float32(discount)
    returns, factor = np.zeros(count, np.float32), np.ones(count, np.float32)
    for k in range(min(steps, count)):
        left = count - k
        returns[:left] += factor[:left] * reward_T[k:]
        factor[:left] *= gamma * not_done_T[k:]
    return returns, factor
