"""Pictures as the convolutions see them: bytes to floats in [0,1], one channels-last tensor for each stream.

On the CPU a compiled loop reads each byte once and writes each float once, where it belongs: as operators of their own,
conversion, division, differences, concatenation and the change of layout take a tenth of an update."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semore.collect.kernels import kernels

kernel = kernels("pictures", Path(__file__).parent, [Path(__file__)])


@cache
def _unit(dtype: torch.dtype) -> NDArray[Any]:
    """What each byte stands for."""
    values: NDArray[Any] = torch.arange(256, dtype=dtype).div(255.0).numpy()
    return values


def stacked(observation: Tensor) -> Tensor:
    """An environment's observations (B,9,S,S), oldest frame first, as frames (B,3,3,S,S)."""
    frames: Tensor = observation.unflatten(1, (3, 3))
    return frames


def in_unit(frame_uint8: Tensor) -> Tensor:
    """Floats in [0,1]."""
    return frame_uint8.to(torch.get_default_dtype()).div_(255.0)


def static_and_motion(frame_BFCHW: Tensor, newest: int) -> tuple[Tensor, Tensor]:
    """The two streams' inputs from frames (B,F,3,S,S) uint8, oldest first, for the frame at index `newest`.

    Static (B,3,S,S) in [0,1] is that frame; motion (B,6,S,S) in [−1,1] is (f3−f2, f2−f1) on channels, newest difference
    first (method.md §3.2).
    """
    window = frame_BFCHW[:, newest - 2 : newest + 1]
    if _plain(window):
        unit = _unit(torch.get_default_dtype())
        static, motion = _room(window, 3, unit), _room(window, 6, unit)
        _fill_static_and_motion(window.numpy(), unit, static, motion)
        return _channels_first(static), _channels_first(motion)
    f1, f2, f3 = in_unit(window).unbind(1)
    last = torch.channels_last
    return f3.contiguous(memory_format=last), torch.cat([f3 - f2, f2 - f1], 1).contiguous(memory_format=last)


def stack_of_three(frame_BFCHW: Tensor, newest: int) -> Tensor:
    """The single stream's input (B,9,S,S) in [0,1] from frames (B,F,3,S,S) uint8: the three ending at `newest`, oldest
    first."""
    window = frame_BFCHW[:, newest - 2 : newest + 1]
    if _plain(window):
        unit = _unit(torch.get_default_dtype())
        stack = _room(window, 9, unit)
        _fill_stack(window.numpy(), unit, stack)
        return _channels_first(stack)
    return in_unit(window).flatten(1, 2).contiguous(memory_format=torch.channels_last)


def _plain(window: Tensor) -> bool:
    """Whether the compiled loop can read it: it is on the CPU, and holds values, as it does not for torch.export."""
    return window.device.type == "cpu" and type(window) is Tensor


def _room(window: Tensor, channels: int, like: NDArray[Any]) -> NDArray[Any]:
    batch, _, _, height, width = window.shape
    return np.empty((batch, height, width, channels), like.dtype)


def _channels_first(picture_BHWC: NDArray[Any]) -> Tensor:
    return torch.from_numpy(picture_BHWC).permute(0, 3, 1, 2)


@kernel
def _fill_static_and_motion(
    window: NDArray[np.uint8], unit: NDArray[Any], static: NDArray[Any], motion: NDArray[Any]
) -> None:
    batch, _, colours, height, width = window.shape
    for b in range(batch):
        for y in range(height):
            for c in range(colours):
                for x in range(width):
                    f1, f2, f3 = unit[window[b, 0, c, y, x]], unit[window[b, 1, c, y, x]], unit[window[b, 2, c, y, x]]
                    static[b, y, x, c] = f3
                    motion[b, y, x, c] = f3 - f2
                    motion[b, y, x, colours + c] = f2 - f1


@kernel
def _fill_stack(window: NDArray[np.uint8], unit: NDArray[Any], stack: NDArray[Any]) -> None:
    batch, frames, colours, height, width = window.shape
    for b in range(batch):
        for y in range(height):
            for f in range(frames):
                for c in range(colours):
                    for x in range(width):
                        stack[b, y, x, colours * f + c] = unit[window[b, f, c, y, x]]
