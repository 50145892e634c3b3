"""Saving: a simulator may offer `save() -> state` and `restore(state) -> Snapshot`, to go on from any moment again."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import Any, cast

import pytest

from semore.collect.scenarios import Scenario
from semore.collect.simulator import Control, Restorable, Simulator
from semore.datasets.errors import SemoreError
from simulator_contract.base import DAY, GAS, SIZE, Contract, creeping, fingerprint


class Saving(Contract):
    """The optional capability; skipped when the simulator has no `save`."""

    @pytest.fixture
    def saver(self, simulator: Simulator) -> Restorable:
        """The simulator, when it can save."""
        if not hasattr(simulator, "save"):
            pytest.skip(f"{self.name} cannot save its state")
        return cast(Restorable, simulator)

    def test_the_same_steps_follow_again(self, saver: Restorable, scenario: Scenario) -> None:
        self.assert_goes_on(saver, scenario, self.run_into_something(saver, scenario))

    def test_after_a_crash(self, saver: Restorable) -> None:
        scenario = self.stage(creeping("muscle car"), 15.0)
        assert self.run_into_something(saver, scenario) > 0
        self.assert_goes_on(saver, scenario, 1)

    def test_from_the_first_moment(self, saver: Restorable, scenario: Scenario) -> None:
        first = fingerprint(saver.reset(scenario, DAY, 2))
        state = saver.save()
        ahead = self.ahead(saver, 10)
        assert fingerprint(saver.restore(state)) == first
        assert self.ahead(saver, 10) == ahead
        saver.reset(scenario, DAY, 2)
        assert self.ahead(saver, 10) == ahead

    def test_a_state_is_frozen_and_saving_disturbs_nothing(self, saver: Restorable, scenario: Scenario) -> None:
        saver.reset(scenario, DAY, 2)
        undisturbed = self.ahead(saver, 30)
        saver.reset(scenario, DAY, 2)
        watched = []
        for step in range(30):
            state = saver.save()
            watched.append(fingerprint(saver.step(self.swerve(step))))
        assert watched == undisturbed
        assert is_dataclass(state)
        with pytest.raises(FrozenInstanceError):
            setattr(state, fields(state)[0].name, None)

    def test_nothing_to_save_before_the_first_reset(self, saver: Restorable) -> None:
        with pytest.raises(SemoreError, match="reset"):
            self.make_simulator(16).save()  # type: ignore[attr-defined]

    def run_into_something(self, saver: Restorable, scenario: Scenario) -> int:
        """Full throttle for up to 120 steps, at least 20 after the first collision; returns how many steps collided."""
        saver.reset(scenario, DAY, 4)
        hits, left = 0, 120
        while left > 0:
            hit = bool(saver.step(GAS).collisions)
            left = min(left, 20) if hit and not hits else left - 1
            hits += hit
        return hits

    def assert_goes_on(self, saver: Restorable, scenario: Scenario, hits: int) -> None:
        """From here, 60 steps are the same: again, through pickle, in a new simulator, and from a moment amid them."""
        state = saver.save()
        stored = pickle.dumps(state)
        ahead = self.ahead(saver, 60)
        assert len(set(ahead)) > 50 or hits
        saver.restore(state)
        assert self.ahead(saver, 30) == ahead[:30]
        amid = saver.save()
        assert self.ahead(saver, 30, first=30) == ahead[30:]
        saver.reset(scenario, DAY, 9)  # whatever else happened in between
        saver.restore(pickle.loads(stored))
        assert self.ahead(saver, 60) == ahead
        saver.close()
        other: Any = self.make_simulator(SIZE)
        other.restore(pickle.loads(stored))
        assert self.ahead(other, 60) == ahead
        other.restore(amid)
        assert self.ahead(other, 30, first=30) == ahead[30:]
        other.close()

    def ahead(self, saver: Restorable, steps: int, first: int = 0) -> list[str]:
        """Digests of the next `steps` snapshots under a fixed run of controls, from its step `first`."""
        return [fingerprint(saver.step(self.swerve(step))) for step in range(first, first + steps)]

    def swerve(self, step: int) -> Control:
        return Control(0.2 if step % 20 < 10 else -0.2, 0.6 if step % 30 < 20 else 0.0, 0.3 if step % 30 >= 25 else 0.0)
