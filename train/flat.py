"""Parameters laid end to end in one tensor, and their gradients in another: what an optimiser, a norm or a moving
average does to all of them is then one operation instead of a hundred."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Flat:
    """Some of a module's parameters, each of which stays what it was for the module: a view of `values`."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parts = list(parameters)
        self.values = nn.Parameter(torch.empty(0), self.parts[0].requires_grad)
        self._gradients: list[Tensor] = []
        self.tie()

    def tie(self) -> None:
        """Make the parts, with what they hold now, views of `values`, and their gradients views of its gradient: a copy
        of a module, or one that was moved to another device, has parts of their own."""
        first, count = self.parts[0], sum(part.numel() for part in self.parts)
        self.values.data = torch.empty(count, dtype=first.dtype, device=first.device)
        self.values.grad = torch.zeros_like(self.values) if self.values.requires_grad else None
        self._gradients, offset = [], 0
        for part in self.parts:
            place = (part.shape, part.stride(), offset)
            part.data = self.values.data.as_strided(*place).copy_(part.data)
            if self.values.grad is not None:
                part.grad = self.values.grad.as_strided(*place)
                self._gradients.append(part.grad)
            offset += part.numel()

    def gather(self) -> None:
        """Take up gradients that somebody has put in the place of the views: who sets gradients to None, as
        nn.Module.zero_grad does, makes autograd do so."""
        for part, view in zip(self.parts, self._gradients, strict=True):
            if part.grad is not view:
                view.zero_() if part.grad is None else view.copy_(part.grad)
                part.grad = view

    def clip(self, largest: float) -> None:
        """Scale the gradient down to a norm of `largest` where it is larger."""
        nn.utils.clip_grad_norm_([self.values], largest)

    def clear(self) -> None:
        """Set the gradient to zero."""
        if self.values.grad is not None:
            self.values.grad.zero_()

    @torch.no_grad()
    def follow(self, other: Flat, rate: float | Tensor) -> None:
        """Move a share `rate` of the way to the same parts of another module."""
        self.values.lerp_(other.values, rate)
