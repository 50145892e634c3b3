"""n-step returns: against a loop over each decision's own window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semore.datasets.returns import n_step_returns

REWARDS = st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(REWARDS, st.integers(1, 6), st.booleans(), st.sampled_from([0.5, 0.97, 1.0]))
def test_returns_equal_a_loop_over_each_window(rewards, steps, terminal, discount):
    count = len(rewards)
    not_done = np.ones(count, np.float32)
    not_done[-1] = 0.0 if terminal else 1.0
    returns, factor = n_step_returns(np.array(rewards, np.float32), not_done, steps, discount)
    for t in range(count):
        window = rewards[t : t + steps]
        expected = sum(reward * discount**k for k, reward in enumerate(window))
        assert returns[t] == pytest.approx(expected, rel=1e-5, abs=1e-5)
        reaches_the_end = t + len(window) == count
        gone = terminal and reaches_the_end
        assert factor[t] == pytest.approx(0.0 if gone else discount ** len(window), rel=1e-5)
