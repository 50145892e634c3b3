"""Checkpoints that ship and the demo that drives them: what a card says, what is refused, what is on film."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image
from report_runs import MASK, make_run
from tiny_moments import moment
from tiny_run import TINY

from semore.collect.policies import load_policy
from semore.datasets.atomic_io import digest16, write_json
from semore.datasets.errors import SemoreError
from semore.datasets.settings import as_dict
from semore.evaluate.checkpoints import Card, installed_world, open_shipped
from semore.evaluate.episodes import read_rows, write_rows
from semore.evaluate.film import __main__ as command
from semore.evaluate.film import demo
from semore.evaluate.film.showcase import HEIGHT, LARGE, PANEL, WIDTH, Showcase
from semore.train.agent import Agent
from semore.train.checkpoint import export_policy, save_checkpoint
from semore.train.online import policy_view
from study import publish

pytestmark = pytest.mark.filterwarnings("ignore:No complete tensor", "ignore::DeprecationWarning")
FIRST = 2_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished, evaluated run of a tiny network that drives forwards."""
    folder = make_run(tmp_path_factory.mktemp("runs"), "tiny-seed7", [100.0, 300.0], seed=7, mask=dict(MASK))
    write_json(folder / "settings.json", {"settings": as_dict(TINY), "environment": {"semore": "0.1.0@abcdef"}})
    torch.manual_seed(11)
    agent = Agent(TINY.agent)
    with torch.no_grad():
        agent.actor[-1].bias.copy_(torch.tensor([0.0, 2.0, 0.0, 0.0]))
    export_policy(agent, folder / "policy.pt2", policy_view(TINY))
    sign(folder)
    identity = {"method": "semore", "rollouts": "r0110u75", **installed_world()}
    save_checkpoint(folder / "best.ckpt", {"identity": identity, "agent": {}})
    return folder


def sign(folder: Path) -> None:
    """The rows of evaluation.csv become those of the policy that is there."""
    digest = digest16((folder / "policy.pt2").read_bytes()).hex()
    rows = read_rows(folder / "evaluation.csv")
    write_rows(folder / "evaluation.csv", [replace(row, policy_digest=digest) for row in rows])


@pytest.fixture(scope="module")
def made(run, tmp_path_factory) -> tuple[Path, Card]:
    """The folder of checkpoints, and the card."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return folder, publish.publish(run, folder, demo_seed=FIRST + 1)


@pytest.fixture
def shipped(made, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(made[0], tmp_path / "checkpoints"))


def test_a_card_tells_what_was_trained_and_what_it_reached(run, made):
    folder, card = made
    assert {path.name for path in folder.iterdir()} == {"JayWalk.pt2", "JayWalk.json", "README.md"}
    assert (card.method, card.train_seed, card.update, card.code) == ("semore", 7, 200, "0.1.0@abcdef")
    assert (card.test.reward, card.test.std, card.test.episodes, card.test.finished) == (200.0, 100.0, 2, 2)
    assert card.world == installed_world()
    assert card.teaches_mask
    assert open_shipped(folder, "JayWalk").card == card
    assert "| JayWalk | semore | laptop, seed 7 | 200 ± 100 |" in (folder / "README.md").read_text()
    picture = np.random.default_rng(0).integers(0, 256, (1, 9, 32, 32), dtype=np.uint8)
    policies = [load_policy(path) for path in (run, folder / "JayWalk.pt2")]
    for policy in policies:
        policy.start([0])
    one, other = (policy.act([0], picture, [{}]) for policy in policies)
    np.testing.assert_array_equal(one, other)


def test_a_checkpoint_holds_no_critic(made):
    names = torch.export.load(made[0] / "JayWalk.pt2").state_dict
    assert {name.partition(".")[0] for name in names} == {"backbone", "actor_neck", "actor"}


def test_a_changed_file_is_refused(shipped):
    path = shipped / "JayWalk.pt2"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(SemoreError, match=r"JayWalk\.pt2 was changed or is torn.*git checkout"):
        open_shipped(shipped, "JayWalk")


def test_another_world_is_refused_when_shown_and_when_made(shipped, run, tmp_path, monkeypatch):
    place = shipped / "JayWalk.json"
    card = json.loads(place.read_text())
    place.write_text(json.dumps(card | {"world": card["world"] | {"renderer_version": "0"}}))
    with pytest.raises(SemoreError, match=r"was trained in the world embedded . with renderer 0, installed is"):
        open_shipped(shipped, "JayWalk")
    monkeypatch.setattr(publish, "installed_world", lambda: installed_world() | {"simulator_version": "99"})
    with pytest.raises(SemoreError, match="installed is embedded 99"):
        publish.publish(run, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_missing_checkpoint_is_told_with_what_there_is(shipped):
    with pytest.raises(SemoreError, match=r"no checkpoint of HighWay \(it has: JayWalk\)"):
        open_shipped(shipped, "HighWay")


def test_what_cannot_ship_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "LARGEST", 1000)
    with pytest.raises(SemoreError, match="more than the"):
        publish.publish(run, tmp_path)
    unfinished = Path(shutil.copytree(run, tmp_path / "runs" / "unfinished"))
    (unfinished / "evaluation.csv").unlink()
    with pytest.raises(SemoreError, match="is not evaluated"):
        publish.publish(unfinished, tmp_path)


def test_the_most_eventful_of_the_clean_episodes_is_chosen(monkeypatch):
    rows = [row(seed, ending) for seed, ending in ((1, "success"), (2, "collisions"), (3, "success"))]

    def drive(_, seed: int, taught: bool):
        calm = moment(0)
        return [calm] if seed == 3 else [replace(calm, known=np.zeros((128, 128), np.bool_))]

    monkeypatch.setattr(publish, "record", drive)
    assert publish.most_eventful(None, rows) == 3  # type: ignore[arg-type]


def row(seed: int, ending: str):
    return publish.Row("trained", "JayWalk", "hard_high_light", seed, ending, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 500)


def test_episodes_of_another_policy_are_no_reason_to_ship_this_one(run, tmp_path):
    own = tmp_path / "tiny-seed7"
    shutil.copytree(run, own)
    torch.manual_seed(12)
    export_policy(Agent(TINY.agent), own / "policy.pt2", policy_view(TINY))
    with pytest.raises(SemoreError, match=r"another policy than .*policy\.pt2.*semore evaluate .*--run tiny-seed7"):
        publish.publish(own, tmp_path / "checkpoints", demo_seed=FIRST)
    sign(own)
    assert publish.publish(own, tmp_path / "checkpoints", demo_seed=FIRST).test.episodes == 2


def test_a_picture_shows_camera_view_mask_motion_and_truth(made):
    drive = [moment(0), moment(9, 50.0, True, "success")]
    showcase = Showcase(drive, made[1], FIRST)
    first, last = showcase.picture(0), showcase.picture(1)
    assert first.shape == (HEIGHT, WIDTH, 3)
    middle, left, right = PANEL // 2, LARGE + 8, LARGE + 16 + PANEL
    assert first[400, 100].tolist() == [90, 90, 90]  # the camera
    assert first[middle, left + middle].tolist() == [70, 70, 70]  # what is seen
    centre = [first[y, x].astype(int) for y, x in ((middle, right + middle), (middle + PANEL, right + middle))]
    for (red, green, blue), strongest in zip(centre, (0, 1), strict=True):  # the student's pink, the truth's green
        assert max((red, green, blue)) == (red, green, blue)[strongest]
    still = replace(drive[0], residual=np.zeros((64, 64), np.float32))
    quiet = Showcase([still, drive[1]], made[1], FIRST).picture(0)
    assert (quiet[PANEL + 40 :, left : left + PANEL] != first[PANEL + 40 :, left : left + PANEL]).any()
    assert (first[LARGE:] != last[LARGE:]).any()
    assert (last[LARGE // 2, :LARGE] != 90).any()  # the ending, across the camera's picture


def test_the_demo_films_what_ships(shipped, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "watch", lambda found, seed: [moment(place) for place in range(12)])
    arguments = ["--folder", str(shipped), "--out", str(tmp_path / "demo"), "--images", str(tmp_path / "images")]
    monkeypatch.setattr(sys, "argv", ["demo", *arguments])
    command.main()
    film, image = tmp_path / "demo" / f"JayWalk-{FIRST + 1}.mp4", tmp_path / "images" / "demo-JayWalk.gif"
    with imageio.get_reader(film) as reader:
        assert reader.count_frames() == 12 + 15
        assert reader.get_meta_data()["size"] == (WIDTH, HEIGHT)
    with Image.open(image) as animation:
        assert animation.n_frames > 1
    assert image.stat().st_size <= demo.LARGEST
    said = capsys.readouterr().out
    assert "over 2 test seeds this policy (semore, training seed 7) reached 200 ± 100 and finished 2" in said
    assert "next: semore collect" in said


def test_the_demo_drives_the_shipped_policy_and_looks_closer_without_touching_it(shipped, monkeypatch):
    found = open_shipped(shipped, "JayWalk")
    large = demo.watch(found, FIRST)
    monkeypatch.setattr(demo, "LARGE", 128)
    plain = demo.watch(found, FIRST)
    assert large[0].rgb.shape == (LARGE, LARGE, 3)
    assert plain[0].seen.shape == (32, 32, 3)
    assert large[0].student is not None
    assert large[-1].metrics == plain[-1].metrics
    assert large[-1].metrics["ending"]


def test_other_seeds_than_test_seeds_are_refused():
    with pytest.raises(SemoreError, match="seed 5 is no test seed"):
        command.check(command.DemoSettings(seed=5))
