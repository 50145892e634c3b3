"""What an update computes and how near its convolutions come to this machine's best: FLOPs, seconds inside, the peak.

A multiply and an add count as two FLOPs, as in torch.utils.flop_counter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

SHAPES: Final = ((32, 39, 64), (64, 32, 32), (128, 28, 16), (256, 14, 16))
"""Channels in and out, side and batch of the 3×3 convolutions tried for the peak: from our layers' to wide ones."""


class Work(NamedTuple):
    """FLOPs of one call."""

    total: float
    convolutions: float


def flops(body: Callable[[], object]) -> Work:
    """Counted, forward and backward, while `body` runs once."""
    with FlopCounterMode(display=False) as counter:
        body()
    counts = counter.get_flop_counts()["Global"]
    convolutions = sum(count for operation, count in counts.items() if "convolution" in str(operation))
    return Work(float(sum(counts.values())), float(convolutions))


def convolution_seconds(body: Callable[[], object]) -> float:
    """Seconds that one call of `body` spends inside convolutions, forward and backward, by PyTorch's profiler."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        body()
    inside = {"aten::convolution", "aten::convolution_backward"}
    return float(sum(event.cpu_time_total for event in profiler.key_averages() if event.key in inside)) / 1e6


def peak(dtype: torch.dtype, tries: int = 3) -> float:
    """The best FLOP/s of a forward 3×3 convolution over the shapes and both memory formats."""
    best = 0.0
    for channels, side, batch in SHAPES:
        work = 2.0 * 9 * channels**2 * side**2 * batch
        for memory_format in (torch.channels_last, torch.contiguous_format):
            picture = torch.rand(batch, channels, side, side, dtype=dtype).contiguous(memory_format=memory_format)
            kernel = torch.rand(channels, channels, 3, 3, dtype=dtype).contiguous(memory_format=memory_format)
            with torch.inference_mode():
                for _ in range(tries):
                    start = time.perf_counter()
                    functional.conv2d(picture, kernel, padding=1)
                    best = max(best, work / (time.perf_counter() - start))
    return best
