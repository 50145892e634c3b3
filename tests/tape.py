"""A recorder that stands for CUDA graphs on a CPU: what tensor operators do is noted once, and replayed without Python.

As a graph it has every number of the first time in it, reads and writes the same memory at every replay, draws new
random numbers, sees nothing of what Python or numpy do, and refuses to ask a tensor for its value. Recording does
nothing: what the noted operators have changed is put back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves

WAITS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.is_nonzero.default,
}
"""Operators that wait for a GPU: they need a value, or the shape of what they return depends on values."""


class Tape:
    """A Recorder (train.captured)."""

    def __init__(self) -> None:
        self.recorded, self.replayed, self.done_aside, self.prepared = 0, 0, 0, 0

    def prepare(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """On a CPU it is the fused Adam that counts its steps in a tensor."""
        self.prepared += 1
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["fused"] = True

    def aside(self, body: Callable[[], Any]) -> Any:
        self.done_aside += 1
        return body()

    def record(self, body: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        self.recorded += 1
        state = torch.get_rng_state()
        with _Noting() as noting:
            result = body()
        torch.set_rng_state(state)
        with torch.no_grad():
            for tensor, before in noting.overwritten.values():
                tensor.copy_(before)

        def replay() -> None:
            self.replayed += 1
            with torch.no_grad():
                for operator, arguments, named, results in noting.steps:
                    again = operator(*arguments, **named)
                    for old, new in zip(results, tree_leaves(again), strict=True):
                        if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                            old.copy_(new)

        return result, replay


class _Noting(TorchDispatchMode):
    """Notes operators below autograd, those of the backward pass too."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, Any, Any, list[Any]]] = []
        self.overwritten: dict[int, tuple[Tensor, Tensor]] = {}
        self._own: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITS or (func in INDEXED and _by_mask(args)):
            raise RuntimeError(f"{func} waits for the GPU")
        named = kwargs or {}
        self._keep(func, args, named)
        result = func(*args, **named)
        results = tree_leaves(result)
        self._own |= _places(results) - _places(tree_leaves((args, named)))
        # The steps hold what they made: as a graph's, its memory is nobody else's.
        self.steps.append((func, args, named, results))
        return result

    def _keep(self, func: Any, args: Any, named: dict[str, Any]) -> None:
        """What is about to be overwritten and was not made on this tape."""
        given = {**dict(zip([each.name for each in func._schema.arguments], args, strict=False)), **named}
        for argument in func._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in tree_flatten(given.get(argument.name))[0]:
                    place = tensor.untyped_storage().data_ptr()
                    if place not in self._own:
                        self.overwritten.setdefault(tensor.data_ptr(), (tensor.detach(), tensor.detach().clone()))


INDEXED = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default}


def _by_mask(args: Any) -> bool:
    return any(isinstance(each, Tensor) and each.dtype == torch.bool for each in tree_leaves(args[1]))


def _places(leaves: Sequence[Any]) -> set[int]:
    """Where the memory of the tensors among them begins."""
    return {each.untyped_storage().data_ptr() for each in leaves if isinstance(each, Tensor)}
