"""Updates that a GPU replays: recorded once as a CUDA graph, their hundreds of kernels start as one.

The agent's update is as it stands, and knows nothing of this. An update is of a kind, by what Python decides in it; of
each kind the first few are done as they stand, the next is recorded, and all further ones are that recording replayed
on what lies in its inputs then: the batch, and the schedule's numbers as tensors. Draws come from CUDA's own generator,
which goes on from replay to replay. Written for a GPU, and never run on one: the tests record and replay on a CPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeVar, cast

import torch
from torch import Tensor

from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import Batch
from semore.train.agent_settings import LossWeights
from semore.train.learner import Learner

WARM_UPS: Final = 3
"""Updates of a kind that are done before one is recorded: libraries choose kernels, optimisers make their state."""
Result = TypeVar("Result")


class Update(Protocol):
    """As Learner.update."""

    def __call__(self, batch: Batch, weights: LossWeights, watch: bool = False) -> dict[str, Tensor]: ...


class Recorder(Protocol):
    """What records and replays."""

    def prepare(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Make them such that their steps can be recorded."""

    def aside(self, body: Callable[[], Result]) -> Result:
        """Do it now, beside what will be recorded."""

    def record(self, body: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Note what it does to tensors, without doing it. What it returns is filled by each replay, which is the second
        that comes back."""


class CudaGraphs:
    """The recorder of a GPU. Its recordings share their memory: no two are replayed at once, and whatever one computes
    is read before the next."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def prepare(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Adam counts its steps on the GPU."""
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["capturable"] = True
            for parameter, state in optimizer.state.items():
                state["step"] = state["step"].to(parameter.device, torch.float32)

    def aside(self, body: Callable[[], Result]) -> Result:
        """On the stream that will be recorded (PyTorch's notes on CUDA graphs say why)."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = body()
        current.wait_stream(self._stream)
        return result

    def record(self, body: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """SemoreError when there is something in it that cannot be recorded."""
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, such as TensorBoard's, are free to do what a recording may not.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                result = body()
        except RuntimeError as error:
            raise SemoreError(
                f"an update cannot be recorded as a CUDA graph ({error}); the same command goes on from the last "
                "checkpoint with --capture false"
            ) from error
        return result, graph.replay


class Kind(NamedTuple):
    """What Python decides in an update, hence of which operators it consists."""

    actor_steps: bool
    clones: bool
    shapes_encoder: bool


@dataclass(frozen=True)
class Inputs(LossWeights):
    """The schedule's numbers as tensors of a recording, which may not be asked for their values: whether there is a
    cloning term is said beside them."""

    with_cloning: bool = False

    @property
    def clones(self) -> bool:
        return self.with_cloning


class Recording(NamedTuple):
    """Of an update: the names of its losses, their values, and how it is replayed."""

    names: Sequence[str]
    values: Tensor
    replay: Callable[[], None]


class Captured:
    """An agent's updates, replayed. The first call must come after the agent and its optimisers are restored: from then
    on their tensors stay where they are."""

    def __init__(self, agent: Learner, recorder: Recorder) -> None:
        self._agent, self._recorder = agent, recorder
        self._batch: Batch | None = None
        self._cloning, self._share = (torch.zeros((), device=agent.device) for _ in range(2))
        self._done: Counter[Kind] = Counter()
        self._recordings: dict[Kind, Recording] = {}

    def update(self, batch: Batch, weights: LossWeights, watch: bool = False) -> dict[str, Tensor]:
        """As Learner.update. Watched updates are few, and done as they stand."""
        every = self._agent.settings.actor_every
        kind = Kind((self._agent.updates + 1) % every == 0, weights.clones, weights.cloning_shapes_encoder)
        own = self._take(batch, weights, kind)
        if watch:
            return self._agent.update(own[0], own[1], watch)
        if kind not in self._recordings and self._done[kind] < WARM_UPS:
            self._done[kind] += 1
            return self._recorder.aside(lambda: self._agent.update(*own))
        if kind not in self._recordings:
            self._recordings[kind] = self._record(*own)
        names, values, replay = self._recordings[kind]
        replay()
        self._agent.updates += 1
        return dict(zip(names, values.clone().unbind(), strict=True))  # the next replay writes over the values

    def _take(self, batch: Batch, weights: LossWeights, kind: Kind) -> tuple[Batch, LossWeights]:
        """Batch and weights copied to where recordings read them."""
        if self._batch is None:
            device = self._agent.device
            self._recorder.prepare(self._agent.optimizers)
            self._batch = Batch(*(torch.empty(part.shape, dtype=part.dtype, device=device) for part in batch))
        for held, part in zip(self._batch, batch, strict=True):
            if held.shape != part.shape:
                raise ValueError(f"a part of a batch of shape {tuple(part.shape)}, after one of {tuple(held.shape)}")
            held.copy_(part, non_blocking=True)
        self._cloning.fill_(weights.cloning)
        self._share.fill_(weights.student_share)
        cloning, share = cast(float, self._cloning), cast(float, self._share)  # they are reckoned with alike
        return self._batch, Inputs(cloning, kind.shapes_encoder, share, kind.clones)

    def _record(self, batch: Batch, weights: LossWeights) -> Recording:
        names: list[str] = []

        def body() -> Tensor:
            found = self._agent.update(batch, weights)
            names.extend(found)
            return torch.stack(list(found.values()))

        updates = self._agent.updates
        values, replay = self._recorder.record(body)
        self._agent.updates = updates  # nothing is done yet
        return Recording(names, values, replay)


def replayed(agent: Learner, wanted: bool) -> Update:
    """The agent's update, replayed where the agent is on a GPU and that is `wanted`."""
    if wanted and agent.device.type == "cuda":
        return Captured(agent, CudaGraphs(agent.device)).update
    return agent.update
