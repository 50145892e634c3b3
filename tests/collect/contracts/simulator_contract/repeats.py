"""Repeats: same seed, same bytes, here and in another process, whenever and however often somebody looks."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from semore.collect.scenarios import SCENARIOS, Scenario, weather
from semore.collect.simulator import Control, Simulator
from simulator_contract.base import DAY, GAS, SIZE, Contract, fingerprint, weave


def fingerprints(contract: type[Contract], scenario: Scenario, seed: int) -> list[str]:
    """Digests of every fifth snapshot of an episode on a new simulator of `contract`."""
    simulator = contract().make_simulator(SIZE)
    shot = simulator.reset(scenario, weather(scenario.weather), seed)
    found = []
    for step in range(30):
        if step % 5 == 0:
            found.append(fingerprint(shot))
        shot = simulator.step(weave(step, shot))
    simulator.close()
    return found


class Repeats(Contract):
    """Determinism, and arrays that belong to whoever receives them."""

    def test_same_seed_same_bytes(self, scenario: Scenario) -> None:
        first = fingerprints(type(self), scenario, 7)
        assert fingerprints(type(self), scenario, 7) == first
        assert fingerprints(type(self), scenario, 8)[0] != first[0]
        assert len(set(first)) == len(first)

    def test_same_bytes_in_another_process(self) -> None:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            for name in self.scenarios:
                there = pool.submit(fingerprints, type(self), SCENARIOS[name], 7).result(timeout=240)
                assert there == fingerprints(type(self), SCENARIOS[name], 7), name

    def test_an_earlier_episode_leaves_no_trace(self, simulator: Simulator, scenario: Scenario) -> None:
        fresh = fingerprint(simulator.reset(scenario, DAY, 5))
        for seed in (6, 7):
            simulator.reset(scenario, DAY, seed)
            for _ in range(50):
                simulator.step(Control(0.3, 1.0))
        assert fingerprint(simulator.reset(scenario, DAY, 5)) == fresh

    def test_drawing_late_or_never_changes_nothing(self, simulator: Simulator, scenario: Scenario) -> None:
        shot = simulator.reset(scenario, DAY, 3)
        at_once = [fingerprint(shot)]
        for step in range(20):
            shot = simulator.step(weave(step, shot))
            at_once.append(fingerprint(shot))
        late = [simulator.reset(scenario, DAY, 3)]
        for step in range(20):
            late.append(simulator.step(weave(step, late[-1])))
        actors = late[4].actors.copy()
        late[4].actors[:] = 0.0  # the receiver's to spoil: it must not reach the picture
        _ = late[4].images
        late[4].actors[:] = actors
        assert [fingerprint(shot) for shot in late[::4]] == at_once[::4]

    def test_arrays_are_fresh(self, simulator: Simulator, scenario: Scenario) -> None:
        shot = simulator.reset(scenario, DAY, 3)
        kept = fingerprint(shot)
        later = simulator.step(GAS)
        images = later.images
        for array in (images.rgb, images.semantic, images.instance, images.depth, later.actors):
            assert array.flags.writeable
            array[:] = 0
        assert fingerprint(shot) == kept
        third = simulator.step(GAS)
        assert third.images.rgb.any()
        assert np.array_equal(third.actors[:, :2], shot.actors[:, :2])
