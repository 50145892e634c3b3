"""Batches on their way from the replay buffer to where the agent is.

To a GPU they go through two sets of page-locked buffers, used in turn: while it copies from one, the next batch is
gathered into the other. Only a pool that lies on the GPU gathers its frames there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from semore.datasets.frame_pool import Batch
from semore.train.replay import SelectiveReplay


class Event(Protocol):
    """A moment in a GPU's work."""

    def synchronize(self) -> object:
        """Wait for it."""


class Transfer(Protocol):
    """What copies to a device while this process goes on."""

    def room(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Memory that can be copied from."""

    def send(self, part: Tensor) -> Tensor:
        """Begin to copy it; returns the copy."""

    def mark(self) -> Event:
        """The moment at which all that was sent so far is copied."""


class ToGpu:
    """The transfer to a GPU. Written for one, and never run on one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def room(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Page-locked: from any other memory a copy waits."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def send(self, part: Tensor) -> Tensor:
        """On the current stream."""
        return part.to(self._device, non_blocking=True)

    def mark(self) -> Event:
        """On the current stream."""
        event: Event = torch.cuda.current_stream(self._device).record_event()
        return event


class Staging:
    """Two sets of buffers in turn."""

    def __init__(self, frames: torch.Size | None, transfer: Transfer) -> None:
        """`frames` is the shape of a batch's (None: they are on the device already)."""
        self._transfer = transfer
        self._frames = [transfer.room(frames, torch.uint8) if frames else None for _ in range(2)]
        self._rooms: list[dict[int, Tensor]] = [{}, {}]
        self._copied: list[Event | None] = [None, None]
        self._turn = 0

    def send(self, draw: Callable[[Tensor | None], Batch]) -> Batch:
        """Draw a batch, its frames into the buffer that `draw` is given, and begin to copy it to the device."""
        turn, self._turn = self._turn, 1 - self._turn
        before = self._copied[turn]
        if before is not None:
            before.synchronize()
        frames, *rest = draw(self._frames[turn])
        held = [self._held(self._rooms[turn], number, part) for number, part in enumerate(rest)]
        buffered = self._frames[turn] is not None
        sent = Batch(self._transfer.send(frames) if buffered else frames, *map(self._transfer.send, held))
        self._copied[turn] = self._transfer.mark()
        return sent

    def _held(self, rooms: dict[int, Tensor], number: int, part: Tensor) -> Tensor:
        if number not in rooms:
            rooms[number] = self._transfer.room(part.shape, part.dtype)
        return rooms[number].copy_(part)


def batches(replay: SelectiveReplay, batch: int, side: int, device: torch.device) -> Callable[[], Batch]:
    """What draws a batch of frames of `side` pixels to the device at each call. It is good until the next: on a CPU all
    have one buffer."""
    shape = torch.Size((replay.pool.view.window * batch, 3, side, side))
    if device.type == "cpu":
        frames = torch.empty(shape, dtype=torch.uint8)
        return lambda: replay.sample(batch, frames)
    staging = Staging(None if replay.pool.frames.device.type == device.type else shape, ToGpu(device))
    return lambda: staging.send(lambda frames: replay.sample(batch, frames))
