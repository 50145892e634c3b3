"""CRIS-tiny: what its phrases mean, what its scenes hold, what its training batches show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semore.annotate.interfaces import FrameBatch
from semore.annotate.oracle.rules import PHRASES
from semore.annotate.oracle.segmenter import PrivilegedSegmenter
from semore.annotate.segment.cris_tiny import phrase_vocab as words
from semore.annotate.segment.cris_tiny.network import SIZE, TOP
from semore.annotate.segment.cris_tiny.scenes import CELLS, FIRST_ACTOR, Scenes, draw_scenes, scene_of
from semore.annotate.segment.cris_tiny.training_batches import ASKED, BatchMaker
from semore.collect.embedded.world import EmbeddedSimulator
from semore.collect.env import ego_row
from semore.collect.scenarios import SCENARIOS, WEATHERS
from semore.collect.simulator import Control
from semore.datasets.errors import SemoreError


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Scenes:
    """One frame of every scenario under every weather."""
    return draw_scenes(tmp_path_factory.mktemp("cris-tiny"), "test", len(CELLS), workers=1)


class TestWords:
    def test_every_phrase_of_the_describer_is_taught_with_known_words_only(self):
        assert [phrase.words for phrase in words.DESCRIBED] == list(PHRASES)
        assert words.UNKNOWN not in words.tokens(PHRASES)

    def test_different_phrases_of_the_describer_read_differently(self):
        assert len(np.unique(words.tokens(PHRASES), axis=0)) == len(PHRASES)

    def test_other_wordings_are_never_the_describers(self):
        assert not {phrase.words for phrase in words.open_phrases()} & set(PHRASES)

    @given(st.text(max_size=200))
    @settings(max_examples=50, deadline=None)
    def test_any_text_is_read(self, text):
        (row,) = words.tokens([text])
        length = int((row != words.PAD).sum())
        assert 1 <= length <= words.MAX_WORDS
        assert (row[:length] != words.PAD).all()

    def test_case_articles_and_punctuation_do_not_matter(self):
        one, other = words.tokens(["The car, ahead!", "car ahead"])
        assert (one == other).all()

    def test_a_strange_word_is_unknown_and_keeps_its_place(self):
        assert words.tokens(["purple car"])[0, :2].tolist() == [words.UNKNOWN, words.vocabulary()["car"]]


class TestScenes:
    def test_the_truth_is_the_privileged_segmenters(self):
        simulator = EmbeddedSimulator(128)
        named = 0
        for scenario, weather in (("HighWay", "normal"), ("HighBeam", "midnight"), ("JayWalk", "hard_high_light")):
            shot = simulator.reset(SCENARIOS[scenario], WEATHERS[weather], 1_000_003)
            for _ in range(30):
                shot = simulator.step(Control(throttle=0.4))
            scene, images = scene_of(shot, 0), shot.images
            nothing = np.zeros((1, 16), np.uint8)
            batch = FrameBatch(
                images.rgb[None], nothing, nothing, images.semantic[None], images.instance[None], shot.actors[None],
                ego_row(shot)[None],
            )  # fmt: skip
            truth = PrivilegedSegmenter().segment(batch, [PHRASES]) > 0
            ours = np.stack([phrase.table(scene)[0][scene.label[0]] for phrase in words.DESCRIBED])
            assert (ours == truth).all()
            named += int(truth.any(axis=(1, 2)).sum())
        assert named >= 5

    def test_every_cell_is_there_and_what_is_on_disk_is_not_drawn_again(self, tmp_path):
        first = draw_scenes(tmp_path, "validation", 1, workers=1)
        assert first.cell.tolist() == list(range(len(CELLS)))
        times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
        torn = sorted(times)[0]
        torn.unlink()
        again = draw_scenes(tmp_path, "validation", 1, workers=1)
        assert (again.rgb == first.rgb).all()
        assert (again.label == first.label).all()
        assert sum(path.stat().st_mtime_ns != time for path, time in times.items()) == 1

    def test_a_torn_file_is_named(self, tmp_path):
        (tmp_path / "part.npz").write_bytes(b"PK\x03\x04 torn")
        with pytest.raises(SemoreError, match=r"part\.npz cannot be read"):
            Scenes.read(tmp_path / "part.npz")


class TestMeanings:
    """Two cars ahead of the picture's centre, left and right, and a pedestrian; rows 0, 1, 2."""

    @pytest.fixture
    def scene(self, scenes) -> Scenes:
        code, kind = np.full((1, 24), -1, np.int16), np.full((1, 24), -1, np.int8)
        code[0, :3] = [PHRASES.index(p) for p in ("car in the left lane", "car ahead", "pedestrian at the roadside")]
        kind[0, :3] = 0, 2, 8
        seen, distance = np.zeros((1, 24), np.int32), np.full((1, 24), np.inf, np.float32)
        seen[0, :3], distance[0, :3] = (50, 20, 3), (30.0, 15.0, 9.0)
        column = np.zeros((1, 24), np.float32)
        column[0, :3] = -0.4, 0.1, 0.6
        changed = {"code": code, "kind": kind, "seen": seen, "distance": distance, "column": column}
        return replace(scenes.take(0), **changed)

    @pytest.mark.parametrize(
        ("phrase", "rows"),
        [
            ("car in left lane", [0]),
            ("car in front of me", [1]),
            ("vehicle ahead", [1]),
            ("vehicles", [0, 1]),
            ("police cars", [1]),
            ("vehicle on left", [0]),
            ("nearest vehicle", [1]),
            ("pedestrians", []),  # 3 pixels only
            ("person on sidewalk", [2]),
            ("key objects", [0, 1, 2]),
            ("truck", []),
        ],
    )
    def test_whom_it_means(self, scene, phrase, rows):
        (known,) = [taught for taught in words.open_phrases() if taught.words == phrase]
        assert np.flatnonzero(known.actors(scene)[0]).tolist() == rows

    def test_scenery_is_a_class_of_pixels(self, scene):
        (road,) = [taught for taught in words.open_phrases() if taught.words == "road"]
        assert np.flatnonzero(road.table(scene)[0]).tolist() == [1]


class TestTrainingBatches:
    def shown(self, scenes: Scenes, rgb: torch.Tensor) -> int:
        """The scene that a batch's picture shows the lower rows of."""
        same = ((rgb.numpy() * 255).round() == scenes.rgb[:, TOP:].transpose(0, 3, 1, 2)).all(axis=(1, 2, 3))
        (scene,) = np.flatnonzero(same)
        return int(scene)

    def test_the_same_number_is_the_same_batch_and_another_is_not(self, scenes):
        one, same = (BatchMaker(scenes, 5, 4).batch(7) for _ in range(2))
        other = BatchMaker(scenes, 5, 4).batch(8)
        assert all(torch.equal(value, getattr(same, name)) for name, value in vars(one).items())
        assert not torch.equal(one.rgb, other.rgb)

    def test_pictures_and_truths_are_those_of_the_lower_rows(self, scenes):
        batch = BatchMaker(scenes, 5, 8).batch(0)
        assert batch.truth.shape == (8, ASKED, SIZE - TOP, SIZE)
        for rgb, actors, pose in zip(batch.rgb, batch.actors, batch.pose, strict=True):
            frame = self.shown(scenes, rgb)
            assert ((actors.numpy() > 0) == (scenes.label[frame, TOP:] >= FIRST_ACTOR)).all()
            np.testing.assert_allclose(pose, scenes.pose[frame] / [0.05, 0.2], rtol=1e-6)

    def test_senses_are_those_of_the_actor_at_the_point(self, scenes):
        batch = BatchMaker(scenes, 2, 16).batch(3)
        for frame in range(16):
            scene = self.shown(scenes, batch.rgb[frame])
            for actor, (place, reach) in zip(
                batch.actors[frame].flatten()[batch.points[frame]], batch.senses[frame].tolist(), strict=True
            ):
                if actor:
                    assert place == np.clip(scenes.place[scene, actor - 1], -4.0, 4.0)
                    assert np.exp(reach) * 20.0 == pytest.approx(
                        scenes.distance[scene, actor - 1].clip(1, 200), rel=1e-5
                    )

    def test_points_know_what_the_masks_know(self, scenes):
        batch = BatchMaker(scenes, 2, 16).batch(3)
        described = {tuple(row.tolist()): index for index, row in enumerate(batch.words[: len(PHRASES)])}
        for frame in range(16):
            for phrase, truth in zip(batch.tokens[frame], batch.truth[frame], strict=True):
                column = described[tuple(phrase.tolist())]
                assert torch.equal(truth.flatten()[batch.points[frame]], batch.meant[frame, :, column])

    def test_pixels_are_asked_about_on_every_actor_in_view_alike(self, scenes):
        batch = BatchMaker(scenes, 2, 16).batch(3)
        for actors, points in zip(batch.actors.flatten(1), batch.points, strict=True):
            shown = actors.unique()
            shown = shown[shown > 0]
            counts = torch.stack([(actors[points] == actor).sum() for actor in shown]) if len(shown) else torch.zeros(1)
            assert counts.sum() == (len(points) if len(shown) else 0)
            assert counts.max() - counts.min() <= 1
        assert (batch.meant[..., : len(PHRASES)].sum(dim=2) > 0).float().mean() > 0.1

    def test_there_is_something_to_find_and_something_that_is_not_there(self, scenes):
        truth = torch.cat([BatchMaker(scenes, 1, 8).batch(number).truth for number in range(4)]).sum(dim=(2, 3))
        assert 0.1 < (truth > 0).float().mean() < 0.7
