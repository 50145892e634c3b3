"""CRIS-tiny: how masks are made, learnt, scored and served, and the weights in the repository."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from semore.annotate.interfaces import FrameBatch
from semore.annotate.oracle.rules import PHRASES
from semore.annotate.segment.cris_tiny import phrase_vocab as words
from semore.annotate.segment.cris_tiny.evaluation import score
from semore.annotate.segment.cris_tiny.network import (
    COARSE,
    SIZE,
    TOP,
    CrisTiny,
    Kernels,
    Pixels,
    answer,
    embedding_at,
    fold,
    meant,
)
from semore.annotate.segment.cris_tiny.scenes import CELLS, FIRST_ACTOR, Scenes, draw_scenes
from semore.annotate.segment.cris_tiny.segmenter import CrisTinySegmenter
from semore.annotate.segment.cris_tiny.tables import clean_share, groups, headline, tables, write_tables
from semore.annotate.segment.cris_tiny.training import Schedule, batch_loss, mask_loss, train
from semore.annotate.segment.cris_tiny.training_batches import BatchMaker
from semore.annotate.segment.cris_tiny.weights import WEIGHTS, write_weights
from semore.annotate.settings import CrisTinySettings
from semore.collect.embedded.world import EmbeddedSimulator
from semore.datasets.errors import SemoreError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Scenes:
    """One frame of every scenario under every weather."""
    return draw_scenes(tmp_path_factory.mktemp("cris-tiny"), "test", len(CELLS), workers=1)


@pytest.fixture
def weights(tmp_path):
    """A file of untrained weights that see something everywhere."""
    torch.manual_seed(3)
    network = CrisTiny(words.UNKNOWN + 1 + len(words.vocabulary()))
    torch.nn.init.zeros_(network.phrases.say.bias)
    write_weights(tmp_path / "w.safetensors", network.state_dict(), {"renderer": "7"})
    return tmp_path / "w.safetensors"


def segmenter(path="") -> CrisTinySegmenter:
    return CrisTinySegmenter(CrisTinySettings(weights=str(path), device="cpu", batch=3))


def frames(rgb: np.ndarray) -> FrameBatch:
    """Pictures and nothing else."""
    count = len(rgb)
    nothing = np.zeros((count, 16), np.uint8)
    blank = np.zeros(rgb.shape[:3], np.uint8), np.zeros(rgb.shape[:3], np.uint16)
    return FrameBatch(
        rgb, nothing, nothing, *blank, np.zeros((count, 0, 14), np.float32), np.zeros((count, 17), np.float32)
    )


class TestNetwork:
    pixels = Pixels(torch.randn(2, 12, 20), torch.randn(2, COARSE, 3, 5))
    kernels = Kernels(torch.randn(3, COARSE), torch.randn(3, 1))

    def masks(self) -> torch.Tensor:
        return answer(self.pixels, Kernels(*(part.expand(2, *part.shape) for part in self.kernels)))

    def test_a_mask_is_where_an_actor_stands_that_is_meant(self):
        """In the middle of 4×4 pixels the coarse answer is the cell's own, apart from its neighbours' share."""
        masks = self.masks()
        assert masks.shape == (2, 3, 12, 20)
        constant = Pixels(self.pixels.outline, self.pixels.coarse[:, :, :1, :1].expand(-1, -1, 3, 5))
        masks = answer(constant, Kernels(*(part.expand(2, *part.shape) for part in self.kernels)))
        coarse, bias = self.kernels
        for frame, phrase, row, column in ((0, 0, 0, 0), (1, 1, 7, 4), (1, 2, 11, 19), (0, 1, 2, 15)):
            outline = torch.sigmoid(constant.outline[frame, row, column])
            meaning = torch.sigmoid(constant.coarse[frame, :, 0, 0] @ coarse[phrase] + bias[phrase, 0])
            torch.testing.assert_close(masks[frame, phrase, row, column], outline * meaning)

    def test_single_pixels_are_answered_as_in_the_mask(self):
        points = torch.randint(0, 240, (2, 30))
        masks = self.masks().flatten(2)
        answers = meant(embedding_at(self.pixels, points), self.kernels).sigmoid()
        outlines = self.pixels.outline.flatten(1).sigmoid()
        for frame in range(2):
            found = answers[frame] * outlines[frame][points[frame], None]
            torch.testing.assert_close(found, masks[frame][:, points[frame]].T)

    def test_folding_changes_no_mask(self):
        torch.manual_seed(1)
        network = CrisTiny(20)
        rgb = torch.rand(4, 3, SIZE - TOP, SIZE)
        network.train()
        network.pixels(rgb)  # statistics that are not 0 and 1
        network.eval()
        with torch.inference_mode():
            before, _ = network.pixels(rgb)
            fold(network)
            torch.testing.assert_close(tuple(network.pixels(rgb)[0]), tuple(before), atol=1e-4, rtol=1e-4)
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())

    def test_loss_prefers_the_truth_and_counts_small_objects(self):
        truth = torch.zeros(1, 2, 32, 32)
        truth[0, 0, 4:6, 4:6] = 1.0
        right, nothing = truth.clamp(0.001, 0.999), torch.full_like(truth, 0.001)
        wrong = nothing.clone()
        wrong[0, 1, :8, :8] = 0.999
        losses = [float(mask_loss(found, truth)) for found in (right, nothing, wrong)]
        assert losses == sorted(losses)
        assert losses[1] > 4 * losses[0]  # four pixels of a thousand


class TestSegmenter:
    phrases = ("car ahead", "pedestrian crossing the road", "a purple dinosaur")

    def test_a_batch_equals_single_frames_within_one_step_of_rounding(self, scenes, weights):
        asked = [self.phrases[: row % 4] for row in range(len(scenes))]
        batch = frames(scenes.rgb)
        together = segmenter(weights).segment(batch, asked)
        assert together.shape == (sum(map(len, asked)), 128, 128)
        assert together.dtype == np.uint8
        assert together.std() > 1
        single = [segmenter(weights).segment(batch.take([row]), [asked[row]]) for row in range(len(scenes))]
        assert np.abs(together.astype(int) - np.concatenate(single)).max() <= 1
        assert (segmenter(weights).segment(batch, asked) == together).all()

    def test_frames_of_another_size_give_masks_of_that_size(self, scenes, weights):
        big = scenes.rgb[:2].repeat(2, axis=1).repeat(2, axis=2)
        small = segmenter(weights).segment(frames(scenes.rgb[:2]), [["car ahead"]] * 2)
        masks = segmenter(weights).segment(frames(big), [["car ahead"]] * 2)
        assert masks.shape == (2, 256, 256)
        shrunk = masks.reshape(2, 128, 2, 128, 2).mean(axis=(2, 4))
        assert np.abs(shrunk - small).mean() < 0.05 * 255

    def test_nothing_asked_nothing_given(self, scenes, weights):
        assert segmenter(weights).segment(frames(scenes.rgb[:2]), [(), ()]).shape == (0, 128, 128)

    def test_identity_needs_the_file_only_and_changes_with_it(self, weights):
        identity = dict(segmenter(weights).identity)
        assert json.loads(json.dumps(identity)) == identity
        assert identity["renderer"] == "7"
        assert identity["privileged"] is False
        write_weights(weights, CrisTiny(words.UNKNOWN + 1 + len(words.vocabulary())).state_dict(), {"renderer": "7"})
        assert segmenter(weights).identity["weights"] != identity["weights"]

    def test_missing_torn_and_foreign_weights_are_named(self, weights, tmp_path):
        with pytest.raises(SemoreError, match=r"gone\.safetensors does not exist"):
            segmenter(tmp_path / "gone.safetensors").load()
        data = weights.read_bytes()
        (tmp_path / "torn.safetensors").write_bytes(data[: len(data) // 2])
        with pytest.raises(SemoreError, match="not a whole safetensors file"):
            _ = segmenter(tmp_path / "torn.safetensors").identity
        write_weights(tmp_path / "other.safetensors", CrisTiny(7).state_dict(), {"renderer": "7"})
        with pytest.raises(SemoreError, match="does not fit"):
            segmenter(tmp_path / "other.safetensors").load()


class TestTraining:
    schedule = Schedule(seed=1, steps=4, batch=2, lr=1e-3, save_every=2)

    def test_an_interrupted_training_ends_with_the_same_weights(self, scenes, tmp_path, monkeypatch):
        whole = train(scenes, self.schedule, tmp_path / "whole.pt")
        batch = BatchMaker.batch

        def stopped(maker: BatchMaker, number: int):
            if number >= 6:
                raise KeyboardInterrupt
            return batch(maker, number)

        with monkeypatch.context() as patch:
            patch.setattr(BatchMaker, "batch", stopped)
            with pytest.raises(KeyboardInterrupt):
                train(scenes, self.schedule, tmp_path / "half.pt")
        resumed = train(scenes, self.schedule, tmp_path / "half.pt")
        assert all(torch.equal(value, whole[name]) for name, value in resumed.items())

    def test_it_learns(self, scenes, tmp_path):
        def loss(state):
            network = CrisTiny(words.UNKNOWN + 1 + len(words.vocabulary())).eval()
            network.load_state_dict(state)
            with torch.inference_mode():
                batches = [BatchMaker(scenes, 9, 4).batch(number) for number in range(3)]
                return float(sum(batch_loss(network, batch) for batch in batches))

        states = [train(scenes, Schedule(1, steps, 2, 3e-3, 100), tmp_path / f"{steps}.pt") for steps in (1, 40)]
        assert loss(states[1]) < 0.9 * loss(states[0])

    def test_a_checkpoint_of_other_settings_is_refused(self, scenes, tmp_path):
        train(scenes, self.schedule, tmp_path / "c.pt")
        with pytest.raises(SemoreError, match="other settings"):
            train(scenes, Schedule(2, 4, 2, 1e-3, 2), tmp_path / "c.pt")
        (tmp_path / "c.pt").write_bytes(b"torn")
        with pytest.raises(SemoreError, match="not a whole checkpoint"):
            train(scenes, self.schedule, tmp_path / "c.pt")


class TestTables:
    def perfect(self, scenes):
        """An answer that knows the truth of `scenes`."""
        tables = np.stack([phrase.table(scenes) for phrase in words.DESCRIBED], axis=1)

        def answer(rgb, phrases):
            rows = [int(np.flatnonzero((scenes.rgb == one).all(axis=(1, 2, 3)))[0]) for one in rgb]
            return np.concatenate([tables[row][:, scenes.label[row]] for row in rows]).astype(np.uint8) * 255

        return answer

    def test_a_perfect_answer_scores_one(self, scenes):
        scores = score(self.perfect(scenes), scenes)
        figures = headline(scores)
        assert all(value == 1.0 or np.isnan(value) for value in figures.values())
        assert figures["mean IoU, all phrases"] == 1.0
        assert scores.truth[scores.present].min() >= 4

    def test_an_answer_that_sees_nothing_is_clean_and_worth_nothing(self, scenes):
        scores = score(lambda rgb, phrases: np.zeros((len(rgb) * len(PHRASES), 128, 128), np.uint8), scenes)
        assert scores.iou[scores.present].max() == 0.0
        assert clean_share(scores, groups(scores)["all"]) == 1.0

    def test_groups_part_the_phrases(self, scenes):
        columns = groups(score(self.perfect(scenes), scenes))
        assert (columns["vehicles"] ^ columns["cyclists"] ^ columns["pedestrians"] == columns["all"]).all()

    def test_the_tables_take_their_place_in_the_card(self, scenes, tmp_path):
        from semore.annotate.segment.cris_tiny.tables import CARD

        card = tmp_path / "card.md"
        card.write_text(CARD.read_text(encoding="utf-8"), encoding="utf-8")
        write_tables(tables(score(self.perfect(scenes), scenes)), card)
        once = card.read_text(encoding="utf-8")
        assert "| mean IoU, all phrases | 1.000 |" in once
        write_tables(tables(score(self.perfect(scenes), scenes)), card)
        assert card.read_text(encoding="utf-8") == once
        card.write_text("no marks", encoding="utf-8")
        with pytest.raises(SemoreError, match="lacks the lines"):
            write_tables("", card)


class TestOurWeights:
    def test_they_fit_the_repository_and_see(self, scenes):
        """A floor far below the card's figures: eighteen frames of unseen seeds."""
        assert WEIGHTS.stat().st_size < 4e6
        figures = headline(score(segmenter().find, scenes))
        assert figures["mean IoU, all phrases"] > 0.35
        assert figures["absent objects clean"] > 0.9

    def test_they_were_trained_on_this_renderer(self):
        assert segmenter().identity["renderer"] == EmbeddedSimulator.renderer_version

    def test_labels_leave_room_for_classes(self, scenes):
        assert scenes.label[scenes.label < FIRST_ACTOR].max() < 14
