"""When a verdict may be said: from five training and fifty test seeds on, of runs of equal data, updates and size."""

from __future__ import annotations

import pytest

from semore.evaluate.claims import Trained, in_words, lacking, trained, verdict
from semore.evaluate.statistics import Estimate

LEAD, TRAIL, OPEN = Estimate(5.0, 1.0, 1.0, 9.0), Estimate(-5.0, 1.0, -9.0, -1.0), Estimate(1.0, 1.0, -1.0, 3.0)

LITTLE = ("2 of 50 test seeds", "1 of 5 training seeds")


def runs(seeds: int = 5, data: str = "r", updates: int = 100, size: str = "s") -> list[Trained]:
    return [Trained(seed, data, updates, size) for seed in range(seeds)]


@pytest.mark.parametrize(
    ("test_seeds", "ours", "theirs", "lacks"),
    [
        (50, runs(), runs(), ()),
        (50, [], [], ()),  # two policies as they are
        (50, runs(), [], ()),
        (49, [], [], ("49 of 50 test seeds",)),
        (2, runs(1), runs(1, updates=6000), (*LITTLE, "unequal updates (100, 6,000)")),
        (50, runs(4), runs(), ("4 of 5 training seeds",)),
        (50, runs(), runs(4), ("4 of 5 training seeds",)),
        (50, runs(4), [], ("4 of 5 training seeds",)),
        (50, runs() + runs(), runs(1) * 5, ("1 of 5 training seeds",)),  # the same seed five times is one
        (50, runs(), runs(data="other"), ("unequal data",)),
        (50, runs(), runs(size="other"), ("unequal size",)),
        (50, runs(3) + runs(size="other"), runs(), ("unequal size",)),
    ],
)  # fmt: skip
def test_what_a_verdict_lacks(test_seeds, ours, theirs, lacks):
    assert lacking(test_seeds, ours, theirs) == lacks


def test_words_follow_the_interval_and_only_where_nothing_lacks():
    assert [verdict(each, ()) for each in (LEAD, TRAIL, OPEN)] == ["ahead", "behind", "undecided"]
    assert {verdict(each, ("49 of 50 test seeds",)) for each in (LEAD, TRAIL, OPEN)} == {"no verdict"}
    assert in_words(LEAD, ()) == "ahead"
    assert in_words(LEAD, ("a", "b")) == "no verdict: a, b"


def test_runs_are_equal_by_recordings_refresh_reward_updates_and_size():
    settings = {"reward": "published", "schedule.refresh_every": 200, "agent.encoder.size": 64, "agent.lr": 1e-3}
    first = trained(1, 100, "fingerprint", settings)
    assert lacking(50, [first] * 5) == ("1 of 5 training seeds",)
    assert trained(1, 100, "fingerprint", settings | {"agent.lr": 1.0}) == first
    for changed in ({"reward": "safety"}, {"schedule.refresh_every": 0}, {"agent.encoder.size": 32}):
        assert trained(1, 100, "fingerprint", settings | changed) != first
    assert trained(1, 100, "others", settings).data != first.data
