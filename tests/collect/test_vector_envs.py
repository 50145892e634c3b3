"""Many environments in processes of their own: the episodes are those of one environment alone, however the processes
are started, and also where the process that starts them has used torch with several threads."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AsyncVectorEnv

import semore.collect

PATIENCE = 60.0
SEEDS = [3, 4]


def make() -> gymnasium.Env[Any, Any]:
    assert semore.collect.__name__  # registers the environments, wherever this is unpickled
    return gymnasium.make("semore/JayWalk-v0", size=21, camera=32, render_mode="rgb_array")


def actions(decision: int) -> np.ndarray:
    return np.array([[0.1, 1.0], [-0.2, 0.5]], np.float32) * (-1.0) ** decision


def alone() -> list[np.ndarray]:
    """What each environment shows when it drives in this process, one batch of observations per decision."""
    env, shown = make(), []
    for slot, seed in enumerate(SEEDS):
        shown.append([env.reset(seed=seed)[0], *(env.step(actions(k)[slot])[0] for k in range(3))])
    env.render()
    env.close()
    return [np.stack(batch) for batch in zip(*shown, strict=True)]


@pytest.fixture
def expected():
    """What they show, after torch has started threads here: a forked process has none of them, and would wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.nn.functional.avg_pool2d(torch.rand(8, 3, 256, 256), 2)
    yield alone()
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "context",
    ["fork", pytest.param("forkserver", marks=pytest.mark.slow), pytest.param("spawn", marks=pytest.mark.slow)],
)
def test_asynchronous_environments_drive_as_one_does(expected, context):
    envs = AsyncVectorEnv([make] * len(SEEDS), context=context)
    done = False
    try:
        envs.reset_async(seed=SEEDS)
        shown = [envs.reset_wait(timeout=PATIENCE)[0]]
        for decision in range(3):
            envs.step_async(actions(decision))
            shown.append(envs.step_wait(timeout=PATIENCE)[0])
        envs.call_async("render")
        assert len(envs.call_wait(timeout=PATIENCE)) == len(SEEDS)
        done = True
    finally:
        envs.close(terminate=not done)
    assert [np.array_equal(one, other) for one, other in zip(shown, expected, strict=True)] == [True] * 4


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn"])
def test_subprocess_environments_of_stable_baselines3_drive_as_one_does(expected, context):
    vector = pytest.importorskip("stable_baselines3.common.vec_env", reason="stable-baselines3 is not installed")
    envs = vector.SubprocVecEnv([make] * len(SEEDS), start_method=context)
    try:
        for remote, seed in zip(envs.remotes, SEEDS, strict=True):
            remote.send(("reset", (seed, {})))
        heard = []
        for remote in envs.remotes:
            assert remote.poll(PATIENCE), "no answer: the process hangs"
            heard.append(remote.recv()[0])
        shown = [np.stack(heard)]
        for decision in range(3):
            envs.step_async(actions(decision))
            assert all(remote.poll(PATIENCE) for remote in envs.remotes)
            shown.append(envs.step_wait()[0])
    finally:
        for process in envs.processes:
            process.kill()
    assert [np.array_equal(one, other) for one, other in zip(shown, expected, strict=True)] == [True] * 4


def test_an_environment_uses_no_torch():
    """Nor numba's threads: neither survives a fork, and a process that only drives is smaller without torch."""
    code = (
        "import sys, gymnasium, semore.collect, numba\n"
        "env = gymnasium.make('semore/HighBeam-v0', size=21, camera=32, render_mode='rgb_array')\n"
        "env.reset(seed=1); env.step(env.action_space.sample()); env.render(); env.close()\n"
        "assert 'torch' not in sys.modules\n"
        "try:\n    print(numba.threading_layer())\nexcept ValueError:\n    print('no threads')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "no threads", done.stderr
