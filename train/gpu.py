"""What a run says to CUDA as a whole: that it can be repeated, its random numbers, and what its memory has room for.

Written for a GPU, and never run on one."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch


def repeatable() -> None:
    """Let the same run give the same weights: slower kernels in place of those that add in any order. Before the first
    work on a GPU."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is repeatable with workspaces of its own only
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


class Randomness:
    """Torch's random state, for a checkpoint: the CPU's and, when the run is on a GPU, that of all GPUs it sees."""

    def __init__(self, device: torch.device, say: Callable[[str], None]) -> None:
        """`say` prints a line."""
        self._on_gpu, self._say = device.type == "cuda", say

    def state(self) -> dict[str, Any]:
        """For `restore`."""
        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if self._on_gpu else []}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on drawing where that was taken. Says so where it cannot: a GPU has other numbers than a CPU."""
        torch.set_rng_state(state["cpu"])
        if self._on_gpu != bool(state["cuda"]):
            before, now = ("CPU", "GPU") if self._on_gpu else ("GPU", "CPU")
            self._say(
                f"the checkpoint was written on a {before} and this is a {now}, which draws other numbers: the weights "
                "will not be those of a run that stayed where it was"
            )
        if self._on_gpu:
            for number, one in enumerate(state["cuda"][: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(one, number)


def room_for_frames(device: torch.device, need: int) -> torch.device:
    """Where `need` bytes of frames lie: on the GPU when they take less than half of what is free there, and of the part
    of it that this process may use; else in this machine's memory."""
    if device.type != "cuda":
        return torch.device("cpu")
    free, total = torch.cuda.mem_get_info(device)
    own = min(free, int(total * torch.cuda.get_per_process_memory_fraction()))
    return device if need < own / 2 else torch.device("cpu")


def share_memory(runs: int) -> None:
    """Keep this process to its part of a GPU that so many runs share."""
    if runs > 1:
        torch.cuda.set_per_process_memory_fraction(0.9 / runs)  # a context takes some on top
