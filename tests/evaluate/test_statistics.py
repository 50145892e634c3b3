"""Statistics of several runs, by hand and against scipy's own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats

from semore.evaluate.statistics import (
    Estimate,
    across_runs,
    across_scenarios,
    ahead,
    difference_across_runs,
    estimate,
    interquartile_mean,
    iqm,
    paired_difference,
    probability_of_improvement,
    std_of_runs,
)

NAN = np.nan
GENERATOR = np.random.default_rng(7)
OURS, THEIRS = GENERATOR.normal(20, 30, (3, 12)), GENERATOR.normal(0, 30, (4, 12))


class TestIQM:
    def test_by_hand(self):
        assert iqm([100.0, 2.0, 4.0, -50.0]) == 3.0
        assert iqm([1.0, 2.0, 3.0]) == 2.0  # a quarter of three is rounded down to none
        assert iqm([0.0, 1.0, 2.0, 3.0, 1000.0]) == 2.0  # one at either end
        assert iqm([7.0]) == 7.0

    def test_several_runs_are_pooled_and_failed_episodes_left_out(self):
        assert iqm([[100.0, 2.0, NAN], [NAN, 4.0, -50.0]]) == 3.0
        assert iqm(OURS) == pytest.approx(scipy.stats.trim_mean(OURS.ravel(), 0.25))

    def test_row_by_row(self):
        found = interquartile_mean(np.array([[100.0, 2.0, 4.0, -50.0], [NAN, NAN, 5.0, 7.0]]), 1)
        assert found.tolist() == [3.0, 6.0]


class TestAcrossRuns:
    def test_mean_and_std_are_those_of_the_pooled_episodes(self):
        found = across_runs(np.array([[1.0, 2.0], [3.0, 6.0]]))
        assert (found.mean, found.std) == (3.0, pytest.approx(3.5**0.5))
        assert std_of_runs(np.array([[1.0, 2.0], [3.0, 6.0]])) == 1.5

    def test_the_interval_is_that_of_all_draws_there_are(self):
        """Two runs of two episodes: 4 draws of runs × 4 of episodes, each equally likely, written out."""
        values = np.array([[0.0, 10.0], [100.0, 120.0]])
        pairs = list(itertools.product(range(2), repeat=2))
        every = [values[list(runs)][:, list(episodes)].mean() for runs in pairs for episodes in pairs]
        found = across_runs(values)
        # The lowest and the highest draw have one chance in 16 each, more than the 2.5% an interval leaves out.
        assert (found.low, found.high) == (min(every), max(every)) == (0.0, 120.0)

    @pytest.mark.parametrize("shape", [(1, 40), (40, 1)])
    def test_with_one_run_or_one_episode_it_is_scipy_s_percentile_bootstrap(self, shape):
        values = np.random.default_rng(3).gamma(2.0, 100.0, shape)
        found = across_runs(values)
        theirs = scipy.stats.bootstrap((values.ravel(),), np.mean, method="percentile", rng=np.random.default_rng(2))
        interval = theirs.confidence_interval
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=0.02)

    def test_it_is_the_interval_of_draws_made_one_by_one(self):
        generator = np.random.default_rng(5)
        draws = []
        for _ in range(10_000):
            runs, episodes = generator.integers(3, size=3), generator.integers(12, size=12)
            draws.append(OURS[runs][:, episodes].mean())
        found = across_runs(OURS)
        assert (found.low, found.high) == pytest.approx(np.quantile(draws, (0.025, 0.975)), abs=0.6)

    def test_failed_episodes_are_as_if_they_had_not_been(self):
        """A test seed that failed in every run may as well be missing; one that failed once leaves the others' mean."""
        whole = across_runs(OURS)
        padded = across_runs(np.insert(OURS, 5, NAN, axis=1))
        assert (padded.mean, padded.std) == pytest.approx((whole.mean, whole.std))
        assert (padded.low, padded.high) == pytest.approx((whole.low, whole.high), abs=2.0)
        torn = OURS.copy()
        torn[1, 4] = NAN
        assert across_runs(torn).mean == pytest.approx(np.delete(OURS.ravel(), 12 + 4).mean())
        assert std_of_runs(torn) == pytest.approx(
            np.std([OURS[0].mean(), np.delete(OURS[1], 4).mean(), OURS[2].mean()])
        )

    def test_the_interquartile_mean_has_an_interval_too(self):
        found = across_runs(OURS, interquartile_mean)
        assert found.mean == pytest.approx(iqm(OURS))
        assert found.low < found.mean < found.high
        wild = OURS.copy()
        wild[0, 0] = 1e6
        assert across_runs(wild, interquartile_mean).high < 100 < across_runs(wild).high


class TestDifferences:
    def test_by_hand(self):
        found = difference_across_runs(np.array([[10.0, 20.0]]), np.array([[1.0, 2.0], [3.0, 4.0]]))
        assert found.mean == 12.5
        assert found.std == pytest.approx(4.5)  # of 10 − 2 and 20 − 3
        assert found.low > 0

    def test_it_is_the_interval_of_draws_made_one_by_one(self):
        generator = np.random.default_rng(5)
        draws = []
        for _ in range(10_000):
            episodes = generator.integers(12, size=12)
            one, other = generator.integers(3, size=3), generator.integers(4, size=4)
            draws.append(OURS[one][:, episodes].mean() - THEIRS[other][:, episodes].mean())
        found = difference_across_runs(OURS, THEIRS)
        assert found.mean == pytest.approx(OURS.mean() - THEIRS.mean())
        assert (found.low, found.high) == pytest.approx(np.quantile(draws, (0.025, 0.975)), abs=0.8)

    def test_with_one_run_each_it_is_the_paired_difference(self):
        one, other = np.random.default_rng(0).normal(0, 30, (2, 60))
        found, plain = difference_across_runs(one[None], other[None]), paired_difference(one.tolist(), other.tolist())
        assert (found.mean, found.std) == pytest.approx((plain.mean, plain.std))
        assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.6)

    def test_episodes_that_failed_anywhere_are_in_neither_mean(self):
        ours, theirs = OURS.copy(), THEIRS.copy()
        ours[0, 2], theirs[3, 7] = NAN, NAN
        left = [place for place in range(12) if place not in (2, 7)]
        assert difference_across_runs(ours, theirs) == difference_across_runs(OURS[:, left], THEIRS[:, left])
        with pytest.raises(ValueError, match="no test episode was driven in every run"):
            difference_across_runs(np.array([[1.0, NAN]]), np.array([[NAN, 1.0]]))


class TestProbabilityOfImprovement:
    def test_by_hand(self):
        found = probability_of_improvement([3.0, 5.0, 1.0, 2.0], [1.0, 5.0, 4.0, 1.0])
        assert found.mean == (1 + 0.5 + 0 + 1) / 4
        assert probability_of_improvement([2.0, 3.0], [1.0, 1.0]) == Estimate(1.0, 0.0, 1.0, 1.0)

    def test_every_run_meets_every_run_on_the_same_episode(self):
        expected = np.mean([one > other for one, other in itertools.product(OURS, THEIRS)])
        found = probability_of_improvement(OURS, THEIRS)
        assert found.mean == pytest.approx(expected)
        assert found.low < expected < found.high
        swapped = probability_of_improvement(THEIRS, OURS)
        assert swapped.mean == pytest.approx(1 - expected)

    def test_it_is_a_share_with_the_interval_of_a_share(self):
        ours = np.array([1.0] * 30 + [-1.0] * 20)
        found = probability_of_improvement(ours, np.zeros(50))
        shares = estimate((ours > 0).astype(float).tolist())
        assert (found.low, found.high) == pytest.approx((shares.low, shares.high), abs=0.03)

    def test_on_one_episode_it_is_mann_and_whitney_s(self):
        one, other = GENERATOR.normal(1, 2, (9, 1)), GENERATOR.normal(0, 2, (7, 1))
        theirs = scipy.stats.mannwhitneyu(one.ravel(), other.ravel()).statistic / (9 * 7)
        assert probability_of_improvement(one, other).mean == pytest.approx(theirs)

    def test_unequal_episodes_are_refused(self):
        with pytest.raises(ValueError, match="equally many, got 3 and 2"):
            probability_of_improvement([1.0, 2.0, 3.0], [1.0, 2.0])


class TestAcrossScenarios:
    def test_one_scenario_is_the_difference_across_runs(self):
        one, whole = across_scenarios([(OURS, THEIRS)]), difference_across_runs(OURS, THEIRS)
        assert (one.mean, one.low, one.high) == (whole.mean, whole.low, whole.high)

    def test_scenarios_count_alike_and_are_drawn_by_themselves(self):
        """Draws of one scenario are independent of the other's: the mean of two alike has 1/√2 of the width."""
        few = (OURS[:, :6], THEIRS[:, :6])
        found = across_scenarios([(OURS, THEIRS), few])
        assert found.mean == pytest.approx((across_scenarios([(OURS, THEIRS)]).mean + across_scenarios([few]).mean) / 2)
        one, two = across_scenarios([(OURS, THEIRS)]), across_scenarios([(OURS, THEIRS)] * 2)
        assert (two.high - two.low) / (one.high - one.low) == pytest.approx(0.5**0.5, rel=0.06)

    def test_chances_are_those_of_each_scenario_on_average(self):
        found = across_scenarios([([1.0, 2.0], [1.0, 1.0]), ([0.0, 0.0], [1.0, 1.0])], ahead)
        assert found.mean == (0.75 + 0.0) / 2
