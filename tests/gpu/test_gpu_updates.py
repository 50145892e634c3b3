"""Updates, batches and pools on a GPU: as on a CPU, recorded as done as they stand."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from test_batches import FRAMES, SIZE, filled
from test_captured import UPDATES, WATCHED, copies, weights_of
from test_methods import LEARNS, OFFLINE, stirred
from test_replay import SIDE, Knowing, Recorded
from tiny_agent import METHODS, batch_for, gradients, make_agent, make_batch, method_settings, part_of
from torch import Tensor

from semore.datasets.frame_pool import Batch
from semore.train import captured as captured_module
from semore.train.batches import batches
from semore.train.captured import Captured, CudaGraphs, Update
from semore.train.gpu import Randomness
from semore.train.learner import Learner
from semore.train.pictures import stack_of_three, static_and_motion

GPU = torch.device("cuda")


def on_gpu(batch: Batch) -> Batch:
    return Batch(*(part.to(GPU) for part in batch))


def trained(agent: Learner, update: Update) -> list[dict[str, Tensor]]:
    """Through every kind of update, on batches that all differ."""
    torch.manual_seed(5)
    return [
        update(on_gpu(batch_for(agent, seed=number)), weights_of(number), (number + 1) % WATCHED == 0)
        for number in range(UPDATES)
    ]


@contextmanager
def nobody_waits() -> Iterator[None]:
    """An error where this process would wait for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recorded_updates_are_those_done_as_they_stand(method, precision, monkeypatch):
    monkeypatch.setattr(captured_module, "WARM_UPS", 1)
    plain, agent = (each.to(GPU) for each in copies(method, precision=precision))
    captured = Captured(agent, CudaGraphs(GPU))
    expected, found = trained(plain, plain.update), trained(agent, captured.update)
    assert len(captured._recordings) == 6
    assert agent.updates == plain.updates == UPDATES
    rough = 1e-3 if precision == "fp32" else 0.05
    for one, two in zip(found, expected, strict=True):
        assert {name: float(value) for name, value in one.items()} == pytest.approx(
            {name: float(value) for name, value in two.items()}, rel=rough, abs=rough
        )
    for (name, a), b in zip(agent.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=rough, atol=0.1 * rough, msg=name)


@pytest.mark.parametrize("method", METHODS)
def test_no_update_waits_for_the_gpu(method, monkeypatch):
    monkeypatch.setattr(captured_module, "WARM_UPS", 1)
    agent = make_agent(settings=method_settings(method, clip=10.0)).to(GPU)
    captured, batch = Captured(agent, CudaGraphs(GPU)), on_gpu(batch_for(agent))
    for number in range(UPDATES):  # until all are recorded, which waits
        captured.update(batch, weights_of(number))
    with nobody_waits():
        for number in range(UPDATES):
            captured.update(batch, weights_of(number))


def test_recorded_updates_draw_anew_and_go_on_from_a_saved_state(monkeypatch):
    """With the same batch all along, only the draws differ."""
    monkeypatch.setattr(captured_module, "WARM_UPS", 1)
    agent = make_agent(settings=method_settings("sac", lr=1e-12, alpha_lr=0.0)).to(GPU)
    update, batch, weights = Captured(agent, CudaGraphs(GPU)).update, on_gpu(make_batch()), weights_of(20)
    for _ in range(6):
        update(batch, weights)
    randomness = Randomness(GPU, print)
    state = randomness.state()
    one = [float(update(batch, weights)["target_q"]) for _ in range(4)]
    assert len(set(one)) == 4
    randomness.restore(state)
    assert [float(update(batch, weights)["target_q"]) for _ in range(4)] == pytest.approx(one, rel=1e-4)


@pytest.mark.parametrize("method", ["semore", "sac"])
def test_the_first_gradients_are_those_of_a_cpu(method):
    """Of an update without draws of a GPU's own: no mask is drawn, and the actor's noise is put in its place."""
    exact = stirred(method_settings(method))
    other = copy.deepcopy(exact).to(GPU)
    noise = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    weights = replace(OFFLINE, student_share=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn_like", lambda like: noise.to(like))
        here = gradients(exact, batch_for(exact), weights)
        there = gradients(other, on_gpu(batch_for(exact)), weights)
    for part in LEARNS[method]:
        one, two = (
            torch.cat([g.flatten().cpu() for name, g in each.items() if part_of(name) == part])
            for each in (here, there)
        )
        assert torch.cosine_similarity(one, two, 0) > 0.999, part


@pytest.mark.parametrize("method", ["semore", "sac"])
def test_bf16_losses_stay_near_those_of_fp32(method):
    exact = stirred(method_settings(method, actor_every=1)).to(GPU)
    settings = exact.settings
    rough = make_agent(settings=replace(settings, encoder=replace(settings.encoder, precision="bf16"))).to(GPU)
    rough.load_state_dict(exact.state_dict())
    values = []
    for agent in (exact, rough):
        torch.manual_seed(7)
        found = agent.update(on_gpu(batch_for(agent, 16)), OFFLINE)
        values.append({name: float(value) for name, value in found.items()})
    assert values[1] == pytest.approx(values[0], rel=0.02, abs=2e-3)
    assert values[1] != values[0]


def test_pictures_are_the_floats_of_a_cpu():
    frames = make_batch().frames
    for newest in (2, 3):
        here = *static_and_motion(frames, newest), stack_of_three(frames, newest)
        there = *static_and_motion(frames.to(GPU), newest), stack_of_three(frames.to(GPU), newest)
        for one, two in zip(here, there, strict=True):
            torch.testing.assert_close(one, two.cpu(), rtol=0, atol=1e-7)
            assert one.stride() == two.stride()


@pytest.mark.parametrize("home", ["cpu", "cuda"])
def test_batches_arrive_as_they_were_drawn(home):
    """By page-locked buffers, and from a pool on the GPU; many in a row, while the GPU is busy with other work."""
    replay, alone = filled(torch.device(home)), filled()
    draw = batches(replay, SIZE, SIDE, GPU)
    busy = torch.randn(4096, 4096, device=GPU)
    sent = []
    for _ in range(20):
        busy = busy @ busy * 1e-3
        sent.append(draw())
    for batch in sent:
        for found, expected in zip(batch, alone.sample(SIZE), strict=True):
            assert found.device.type == "cuda"
            assert torch.equal(found.cpu(), expected)
    assert sent[0].frames.shape == (SIZE, 4, *FRAMES[1:])


def test_a_pool_on_the_gpu_is_the_one_here():
    there, here = filled(GPU), filled()
    for number in range(4, 12):
        for replay in (there, here):
            replay.add(Recorded(number, 30), Knowing())
    assert len(there.pool.episodes) < 11
    assert torch.equal(there.pool.frames[: there.pool.size].cpu(), here.pool.frames[: here.pool.size])
    index = here.latest(20)
    assert torch.equal(there.pool.observation(index).cpu(), here.pool.observation(index))
    assert there.state()["contents"] == here.state()["contents"]
