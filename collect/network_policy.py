"""A trained network as a policy: the only one that needs torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semore.datasets.errors import SemoreError
from semore.datasets.resize import GREY

Network = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


class NetworkPolicy:
    """A trained policy. Its mean acts, plus `spread` times its σ of noise from a generator per episode.

    At every decision the noise is standard normal; that of consecutive decisions is correlated by `memory`, in [0, 1),
    so that what it does to the car adds up instead of averaging out (an AR(1) process; Eberhard et al. 2023, "Pink
    noise is all you need", on what such noise explores).

    `network` maps observations (B, 9, S, S) uint8 to means and log standard deviations (B, 2) before tanh, and to the
    student's mask (B, s, s) in [0, 1]. A policy whose view says `grey` was trained on grey pictures and is shown
    nothing else."""

    def __init__(
        self,
        network: Network,
        view: Mapping[str, Any],
        spread: float = 0.0,
        memory: float = 0.0,
    ) -> None:
        self.view = view
        """What it must be shown: `size` (pixels), `stack`, `frame_skip`, `grey`; and where it comes from."""
        self._network, self._spread = _blindfolded(network) if view.get("grey") else network, spread
        self._memory = memory
        self._generators: list[np.random.Generator] = []
        self._noise: dict[int, NDArray[np.float64]] = {}
        self._mask: torch.Tensor | None = None

    def start(self, seeds: Sequence[int]) -> None:
        self._generators = [np.random.default_rng([seed, 0x5AC]) for seed in seeds]
        self._noise = {}

    def act(
        self, slots: Sequence[int], observations: NDArray[np.uint8], infos: Sequence[Mapping[str, Any]]
    ) -> NDArray[np.float32]:
        with torch.inference_mode():
            mean, log_std, self._mask = self._network(torch.from_numpy(observations))
            if self._spread:
                noise = np.stack([self._next_noise(slot) for slot in slots]).astype(np.float32)
                mean = mean + self._spread * log_std.exp() * torch.from_numpy(noise).to(mean.device)
            return torch.tanh(mean).float().cpu().numpy()

    def _next_noise(self, slot: int) -> NDArray[np.float64]:
        """An episode's noise at its next decision, (2,)."""
        fresh = self._generators[slot].standard_normal(2)
        if (before := self._noise.get(slot)) is not None:
            fresh = self._memory * before + math.sqrt(1.0 - self._memory**2) * fresh
        self._noise[slot] = fresh
        return fresh

    @property
    def last_mask(self) -> NDArray[np.float32]:
        """Where the policy saw key objects when it last acted, as `student_mask`; SemoreError before its first act."""
        if self._mask is None:
            raise SemoreError("the policy has not acted yet; `student_mask` shows its mask of any observation")
        return self._mask.float().cpu().numpy()

    def student_mask(self, observations: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Where the policy sees key objects: (B, s, s) float32 in [0, 1]."""
        with torch.inference_mode():
            return self._network(torch.from_numpy(observations))[2].float().cpu().numpy()


def _blindfolded(network: Network) -> Network:
    return lambda observation: network(torch.full_like(observation, GREY))


def read_network(file: Path) -> Network:
    """The network of an exported policy file; SemoreError when it is none of ours."""
    try:
        program = torch.export.load(file)
    except (RuntimeError, ValueError, KeyError) as error:
        raise SemoreError(f"{file} is not a policy exported by Semore ({type(error).__name__}: {error})") from None
    network: Network = program.module()
    return network
