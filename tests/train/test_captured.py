"""Recorded updates, replayed: the same weights and losses as of updates that are done as they stand. On a CPU, where
tests/tape.py stands for CUDA graphs; tests/gpu has the same on a GPU."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from tape import Tape
from tiny_agent import GATED, METHODS, batch_for, make_agent, make_batch, method_settings
from torch import nn

from semore.datasets.frame_pool import Batch
from semore.train import agent as agents
from semore.train import captured as captured_module
from semore.train import pictures
from semore.train.agent_settings import LossWeights
from semore.train.captured import WARM_UPS, Captured, CudaGraphs, Inputs, replayed
from semore.train.learner import Learner
from semore.train.pictures import stack_of_three, static_and_motion

pytestmark = pytest.mark.usefixtures("one_thread")


UPDATES, WATCHED = 21, 9
QUICK = ("semore", "drq", "cloning")


@pytest.fixture
def _by_operators(monkeypatch):
    """Pictures become floats as on a GPU: a tape sees no compiled loops. It needs no warming up."""
    monkeypatch.setattr(captured_module, "WARM_UPS", 1)
    monkeypatch.setattr(pictures, "_plain", lambda _: False)


def weights_of(update: int) -> LossWeights:
    """Cloning in the encoder, then outside it and falling, then none; the student's share rises all along."""
    cloning = 2.5 if update < 7 else 2.5 - 0.3 * (update - 6) if update < 14 else 0.0
    return LossWeights(cloning, update < 7, update / UPDATES)


def trained(agent: Learner, update: captured_module.Update) -> list[dict[str, float]]:
    """The losses of updates on batches that all differ."""
    torch.manual_seed(5)
    losses = [
        update(batch_for(agent, seed=number), weights_of(number), (number + 1) % WATCHED == 0)
        for number in range(UPDATES)
    ]
    assert agent.updates == UPDATES
    return [{name: float(value) for name, value in each.items()} for each in losses]


def copies(method: str, **changes) -> tuple[Learner, Learner]:
    settings = method_settings(method, clip=10.0, **changes)
    return make_agent(settings=settings), make_agent(settings=settings)


def assert_same(one: Learner, two: Learner) -> None:
    for (name, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.usefixtures("_by_operators")
@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in METHODS]
)
def test_replayed_updates_are_those_done_as_they_stand(method):
    """Weights, losses and random state, through every kind of update."""
    plain, agent = copies(method)
    recorder = Tape()
    expected = trained(plain, plain.update)
    state = torch.get_rng_state()
    found = trained(agent, Captured(agent, recorder).update)
    assert found == [pytest.approx(each, rel=1e-4, abs=1e-6) for each in expected]
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(plain, agent)
    assert recorder.recorded == 6  # with and without an actor's step, three kinds of cloning
    assert recorder.done_aside == 6
    assert recorder.replayed == UPDATES - UPDATES // WATCHED - 6
    assert recorder.prepared == 1


@pytest.mark.usefixtures("_by_operators")
@pytest.mark.parametrize("baked", ["cloning", "student_share", "batch"])
def test_the_tape_would_tell_a_number_or_a_batch_that_is_not_an_input(baked, monkeypatch):
    """What the test above is worth: with one of them left as it was when it was recorded, the weights differ."""
    plain, agent = copies("semore", mask="student")  # with the method's own mask the share means nothing
    captured = Captured(agent, Tape())
    take = captured._take

    def leaky(batch: Batch, weights: LossWeights, kind: captured_module.Kind) -> tuple[Batch, LossWeights]:
        held, numbers = take(batch, weights, kind)
        if baked == "batch":
            return batch, numbers
        return held, replace(numbers, **{baked: getattr(weights, baked)})

    monkeypatch.setattr(captured, "_take", leaky)
    trained(plain, plain.update)
    trained(agent, captured.update)
    with pytest.raises(AssertionError):
        assert_same(plain, agent)


@pytest.mark.usefixtures("_by_operators")
def test_what_a_replayed_update_returns_stays():
    """The replay after it writes over the recording's own values."""
    agent = make_agent()
    update = Captured(agent, Tape()).update
    kept = [update(make_batch(seed=number), LossWeights()) for number in range(6)]
    values = [float(each["q"]) for each in kept]
    assert len(set(values)) == 6
    update(make_batch(seed=50), LossWeights())
    update(make_batch(seed=51), LossWeights())
    assert [float(each["q"]) for each in kept] == values


def test_a_batch_of_another_size_is_refused():
    agent = make_agent()
    update = Captured(agent, Tape()).update
    update(make_batch(6), LossWeights())
    with pytest.raises(ValueError, match="after one of"):
        update(make_batch(3), LossWeights())


def test_an_update_that_asks_for_a_value_cannot_be_recorded(monkeypatch):
    """As on a GPU, where the error has a remedy."""
    agent = make_agent()
    monkeypatch.setattr(agents.Agent, "descend", _asking(agents.Agent.descend))
    update = Captured(agent, Tape()).update
    for number in range(2 * WARM_UPS):
        update(make_batch(seed=number), LossWeights())
    with pytest.raises(RuntimeError, match="waits for the GPU"):
        update(make_batch(), LossWeights())


def _asking(descend):
    def asking(optimizer, *rest):
        if float(optimizer.param_groups[0]["params"][0].detach().sum()) < 1e9:
            descend(optimizer, *rest)

    return staticmethod(asking)


def test_a_recording_that_fails_is_one_error_with_a_remedy(monkeypatch):
    """The stream and the graph are stood for; the message is ours."""

    class Refusing:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            raise RuntimeError("operation not permitted when stream is capturing")

        def __exit__(self, *_):
            pass

    for name in ("Stream", "CUDAGraph", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "graph", Refusing)
    with pytest.raises(captured_module.SemoreError, match=r"not permitted.*goes on.*--capture false"):
        CudaGraphs(torch.device("cuda")).record(lambda: torch.zeros(1))


def test_an_agent_on_a_cpu_updates_as_it_stands():
    agent = make_agent()
    assert replayed(agent, True) == agent.update


def test_adam_can_be_recorded_also_after_a_checkpoint_of_a_cpu(monkeypatch):
    """α's counts its steps on the CPU until then."""
    for name in ("Stream", "graph_pool_handle"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    agent = make_agent()
    agent.update(make_batch(), LossWeights())
    agent.update(make_batch(), LossWeights())
    CudaGraphs(torch.device("cuda")).prepare(agent.optimizers)
    for optimizer in agent.optimizers:
        assert all(group["capturable"] for group in optimizer.param_groups)
        for parameter, state in optimizer.state.items():
            assert state["step"].device == parameter.device


# Without a value: on the device `meta` tensors have none, and whoever asks for one fails.


@pytest.fixture
def _values_are_nowhere(monkeypatch):
    """Autocast, clipping by `foreach` and fused Adam ask whether they know the device, which is not what is asked
    here."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(import_module("torch.optim.adam"), "_device_dtype_check_for_fused", lambda *_: None)
    for name in ("_has_foreach_support", "_device_has_foreach_support"):
        monkeypatch.setattr(nn.utils.clip_grad, name, lambda *_: True)


FORMS = [
    *((method, {}) for method in METHODS),
    ("semore", GATED),
    ("semore", {"mask_side": 32, "fusion": "concat"}),
    ("semore", {**GATED, "mask_side": 16, "auxiliaries": ("semantic", "semantic_features")}),
]


def nowhere(method: str, **changes) -> Learner:
    """Its optimisers' parameters, too: moving an agent to this device would leave them where they were."""
    settings = method_settings(method, clip=10.0, **changes)
    with torch.device("meta"):
        return agents.make_agent(settings)


@pytest.mark.usefixtures("_values_are_nowhere")
@pytest.mark.parametrize(("method", "changes"), FORMS)
def test_an_update_asks_no_tensor_for_its_value_and_makes_none_elsewhere(method, changes):
    """Hence never waits for a GPU. With numbers and with tensors for the schedule's, watched and not."""
    agent = nowhere(method, **changes)
    batch = Batch(*(part.to("meta") for part in batch_for(agent)))
    number = torch.zeros((), device="meta")
    for clones, shapes, watch in ((True, True, True), (True, False, False), (False, False, False)):
        for _ in range(2):
            found = agent.update(batch, Inputs(number, shapes, number, clones), watch)
            assert {value.device.type for value in found.values()} == {"meta"}


@pytest.mark.usefixtures("_values_are_nowhere")
def test_an_update_that_asks_for_a_value_is_found_out(monkeypatch):
    monkeypatch.setattr(agents.Agent, "descend", _asking(agents.Agent.descend))
    agent = nowhere("sac")
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        agent.update(Batch(*(part.to("meta") for part in make_batch())), LossWeights())


@pytest.mark.parametrize("newest", [2, 3])
def test_pictures_are_the_same_floats_by_operators_and_by_the_compiled_loop(newest, monkeypatch):
    frames = make_batch().frames
    by_loop = *static_and_motion(frames, newest), stack_of_three(frames, newest)
    monkeypatch.setattr(pictures, "_plain", lambda _: False)
    by_operators = *static_and_motion(frames, newest), stack_of_three(frames, newest)
    for loop, operators in zip(by_loop, by_operators, strict=True):
        torch.testing.assert_close(loop, operators, rtol=0, atol=0)
        assert loop.stride() == operators.stride()
