"""Pictures for people: the right panels at the right places, and a PNG on disk; and what the student is measured by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_agent import ENCODER, GRID, SIZE, make_agent
from tiny_run import asked, make_data

from semore.annotate.audit.truth import true_grids
from semore.annotate.registry import PRIVILEGED, make_producers
from semore.datasets.frame_pool import FramePool
from semore.datasets.frame_view import View
from semore.datasets.knowledge.cache import KnowledgeCache, ensure_set, open_set
from semore.datasets.rollouts.store import Rollouts
from semore.train.admission import ReplaySettings
from semore.train.attention import CrossAttention
from semore.train.held_out import HeldOut
from semore.train.replay import SelectiveReplay
from semore.train.visualize import APART, PANELS, SHOWN, SIDE, draw, save

CELL = SIDE // GRID


def replay_of(frames: int, side: int = GRID) -> SelectiveReplay:
    """Random frames and masks of `side`, all in one episode, every one admitted."""
    generator = torch.Generator().manual_seed(1)
    pool = FramePool(View(SIZE, side, 1, "published"), 200)
    pool.frames[:frames] = torch.randint(0, 256, (frames, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    pool.masks[:frames] = torch.randint(0, 256, (frames, side, side), dtype=torch.uint8, generator=generator)
    pool.mask_valid[:frames] = True
    pool.window[:frames] = (torch.arange(frames)[:, None] + torch.tensor([-2, -1, 0, 1])).clamp_min(0)
    pool.size, pool.episodes = frames, [("e", frames)]
    replay = SelectiveReplay(pool, ReplaySettings(admission="off", pool_frames=200), 0)
    replay._step[: frames - 1] = np.arange(frames - 1)
    replay.judge()
    return replay


def panel(picture: np.ndarray, row: int, name: str) -> np.ndarray:
    column = PANELS.index(name)
    return picture[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE]


def cells(picture: np.ndarray, row: int, name: str) -> np.ndarray:
    """(g, g): the value in the middle of each cell of a panel, which is grey."""
    shown = panel(picture, row, name)
    assert (shown[20:] == shown[20:, :, :1]).all()  # below the titles
    return shown[CELL // 2 :: CELL, CELL // 2 :: CELL, 0]


def test_a_picture_shows_the_newest_frames_and_what_is_known_of_them():
    replay, agent = replay_of(120), make_agent()
    picture = draw(agent, replay)
    assert picture.shape == (SHOWN * SIDE, len(PANELS) * SIDE, 3)
    assert picture.dtype == np.uint8
    newest = [118 - APART * row for row in range(SHOWN)]
    scale = SIDE // SIZE
    for row, index in enumerate(newest):
        frame = replay.pool.frames[index].permute(1, 2, 0).numpy()
        seen = panel(picture, row, "newest frame")[scale // 2 :: scale, scale // 2 :: scale]
        assert np.abs(seen[4:].astype(int) - frame[4:]).max() <= 1
        mask = replay.pool.masks[index].numpy()
        assert np.abs(cells(picture, row, "H_ka")[1:].astype(int) - mask[1:]).max() <= 1
        with torch.no_grad():
            student = agent(replay.pool.observation(torch.tensor([index])))[2][0]
        assert np.abs(cells(picture, row, "student's mask")[1:] - 255 * student[1:].numpy()).max() < 1.01
        one, two = (replay.pool.frames[at].float() / 255 for at in (index, index - 1))
        moved = (255 * ((one - two).abs().amax(0) / 0.5).clamp(0, 1)).numpy()
        residual = panel(picture, row, "motion residual")[scale // 2 :: scale, scale // 2 :: scale, 0]
        assert np.abs(residual[4:] - moved[4:]).max() < 1.01


@pytest.mark.parametrize("attention", ["cross", "none"])
def test_finer_masks_are_shown_cell_by_cell(attention):
    encoder = replace(ENCODER, mask_side=32, mask_path="concat", fusion="concat", attention=attention)
    replay, agent = replay_of(60, 32), make_agent(encoder=encoder)
    picture, cell = draw(agent, replay), SIDE // 32
    with torch.no_grad():
        student = agent(replay.pool.observation(torch.tensor([58])))[2][0]
    for name, expected in (("H_ka", replay.pool.masks[58].numpy()), ("student's mask", 255 * student.numpy())):
        shown = panel(picture, 0, name)[cell // 2 :: cell, cell // 2 :: cell, 0]
        assert shown.shape == (32, 32)
        assert np.abs(shown[6:].astype(int) - expected[6:]).max() < 1.01  # below the titles
    assert panel(picture, 0, "attention to H_ka")[20:].any() == (attention == "cross")


def test_the_attention_panel_peaks_where_the_attention_looks():
    """Every cell asks for the direction that the position of one cell has."""
    agent, replay, cell = make_agent(), replay_of(120), 37
    attention = agent.backbone.attention
    assert isinstance(attention, CrossAttention)
    asks, channels = attention.motion_asks, attention.position.shape[1]
    with torch.no_grad():
        attention.position[cell] = 1000.0 * torch.randn(channels)
        asks.key_value.weight[:channels] = torch.eye(channels)
        asks.key_value.bias.zero_()
        asks.query.weight.zero_()
        asks.query.bias.copy_(5.0 * attention.known_norm(attention.position[cell]))
    picture = draw(agent, replay)
    for row in range(SHOWN):
        shown = cells(picture, row, "attention to H_ka")
        assert shown.argmax() == cell
        assert shown.max() == 255


@pytest.mark.parametrize(
    ("encoder", "black"),
    [
        ({"attention": "none"}, ["attention to H_ka"]),
        ({"attention": "joint"}, ["attention to H_ka"]),
        ({"streams": "single", "attention": "none", "mask": "zeros"}, ["attention to H_ka", "student's mask"]),
    ],
)
def test_what_a_network_lacks_is_black(encoder, black):
    changes = {"semantic_weight": 0.0} if len(black) == 2 else {}
    picture = draw(make_agent(encoder=replace(ENCODER, **encoder), **changes), replay_of(60))
    assert picture.shape[0] == 3 * SIDE  # 59 transitions: three that are 25 apart
    for name in PANELS:
        assert bool(panel(picture, 0, name)[20:].any()) == (name not in black), name


def test_a_picture_draws_none_of_the_run_s_random_numbers():
    replay, agent = replay_of(60), make_agent()
    before, weights = torch.get_rng_state(), {name: value.clone() for name, value in agent.state_dict().items()}
    draw(agent, replay)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, weights[name]) for name, value in agent.state_dict().items())


def test_a_picture_is_a_png_on_disk(tmp_path):
    picture = draw(make_agent(), replay_of(60))
    path = tmp_path / "pictures" / "update-000500.png"
    save(picture, path)
    with Image.open(path) as read:
        assert read.format == "PNG"
        assert np.array_equal(np.asarray(read), picture)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("side", [GRID, 32])
def test_the_student_is_measured_by_the_simulator_s_truth_whatever_the_knowledge_set_says(data, tmp_path, side):
    episodes = [
        episode for episode in Rollouts(data / "rollouts" / "tiny.zarr").episodes()
        if episode.attributes["split"] == "validation"
    ]  # fmt: skip
    settings = asked(data, tmp_path)
    encoder = replace(settings.agent.encoder, mask_side=side)
    settings = replace(settings, agent=replace(settings.agent, encoder=encoder))
    known = open_set(data / "knowledge", "privileged")
    empty = ensure_set(KnowledgeCache(tmp_path / "empty"), "nothing", make_producers(PRIVILEGED).manifest("max", None))
    agent = make_agent(encoder=encoder)
    constant = np.linspace(0, 1, side * side, dtype=np.float32).reshape(side, side)
    found = []
    for knowledge in (known, empty):
        held_out = HeldOut.of(settings.view, episodes, knowledge)
        assert bool(held_out.pool.mask_valid.any()) == (knowledge is known)
        rows = [*range(0, episodes[0].steps, 2), episodes[0].steps]
        assert np.array_equal(held_out.truth, true_grids(episodes[0], np.array(rows), side))
        found.append(held_out.quality_beside(agent, constant, resamples=20))
    assert found[0] is not None
    assert found[0].frames > 0
    assert found[0] == found[1]
    pool, truth = HeldOut.of(settings.view, episodes, known)
    assert np.array_equal(truth > 127, pool.masks[: pool.size].numpy() > 127)  # exact masks are the truth
