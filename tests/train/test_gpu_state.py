"""What a run says to CUDA as a whole, where there is none: CUDA's functions are stood for. tests/gpu has true ones."""

from __future__ import annotations

import os
import re

import pytest
import torch

from semore.train.gpu import Randomness, repeatable, room_for_frames

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def two_gpus(monkeypatch) -> list[torch.Tensor]:
    """Their random states."""
    states = [torch.tensor([1, 2], dtype=torch.uint8), torch.tensor([3, 4], dtype=torch.uint8)]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(states))
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [state.clone() for state in states])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, number: states[number].copy_(state))
    return states


def test_the_random_state_of_all_gpus_is_kept_and_brought_back(two_gpus):
    said: list[str] = []
    randomness = Randomness(CUDA, said.append)
    state = randomness.state()
    first = torch.rand(3)
    for each in two_gpus:
        each.zero_()
    randomness.restore(state)
    assert [each.tolist() for each in two_gpus] == [[1, 2], [3, 4]]
    assert torch.equal(torch.rand(3), first)
    assert not said


def test_a_run_that_sees_fewer_gpus_than_before_takes_the_first_ones(two_gpus, monkeypatch):
    state = Randomness(CUDA, print).state()
    two_gpus.pop()
    two_gpus[0].zero_()
    Randomness(CUDA, print).restore(state)
    assert two_gpus[0].tolist() == [1, 2]


@pytest.mark.parametrize(("before", "now", "words"), [(CPU, CUDA, "on a CPU.*GPU"), (CUDA, CPU, "on a GPU.*CPU")])
def test_a_run_that_moves_between_cpu_and_gpu_is_told_what_that_means(two_gpus, before, now, words):
    said: list[str] = []
    state = Randomness(before, said.append).state()
    expected = torch.rand(2)
    Randomness(now, said.append).restore(state)
    assert torch.equal(torch.rand(2), expected)
    assert len(said) == 1
    assert re.search(words, said[0])


def test_a_cpu_run_asks_no_gpu(monkeypatch):
    """It would take memory of one that others use."""
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: pytest.fail("asked"))
    assert Randomness(CPU, print).state()["cuda"] == []


@pytest.mark.parametrize(
    ("device", "free", "fraction", "need", "home"),
    [
        (CPU, 100, 1.0, 1, CPU),
        (CUDA, 100, 1.0, 49, CUDA),
        (CUDA, 100, 1.0, 50, CPU),
        (CUDA, 160, 1.0, 79, CUDA),
        (CUDA, 160, 0.25, 79, CPU),  # four runs share it
        (CUDA, 160, 0.25, 24, CUDA),
        (CUDA, 20, 0.25, 24, CPU),
    ],
)
def test_frames_lie_on_the_gpu_where_they_take_less_than_half_of_what_is_ours(
    monkeypatch, device, free, fraction, need, home
):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 200))
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda: fraction)
    assert room_for_frames(device, need) == home


def test_a_run_on_a_gpu_asks_for_kernels_that_repeat(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    try:
        repeatable()
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True
