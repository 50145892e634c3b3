"""CRIS behind the Segmenter seam: order, batching, memory of phrases, geometry, tokens. A light network stands in for
the real one, which tests/annotate/test_cris.py measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_oracle_rules import actor, scene
from torch import Tensor, nn

from semore.annotate.interfaces import FrameBatch
from semore.annotate.segment.batching import PhraseMemory
from semore.annotate.segment.cris.neck import ImageFeatures
from semore.annotate.segment.cris.network import TextFeatures
from semore.annotate.segment.cris.phrases import tokenize
from semore.annotate.segment.cris.picture import BORDER, SIZE, letterbox, restore, soft_mask
from semore.annotate.segment.cris.segmenter import CrisSegmenter
from semore.annotate.settings import CrisSettings
from semore.datasets.errors import SemoreError

PHRASES = ("car ahead", "pedestrian crossing the road", "oncoming car with headlights on", "cyclist")


class LightNetwork(nn.Module):
    """Speaks like CRIS: its mask is the picture's red channel, tilted by the phrase. Counts what it is asked."""

    def __init__(self, word_len: int = 17) -> None:
        super().__init__()
        self.word_len = word_len
        self.tilt = nn.Parameter(torch.tensor(1.0))
        self.pictures: list[int] = []
        self.spoken: list[int] = []
        self.decoded: list[int] = []
        self.dtypes: set[torch.dtype] = set()

    def encode_image(self, image: Tensor) -> ImageFeatures:
        self.pictures.append(len(image))
        return ImageFeatures(image[:, :1, ::4, ::4], image, image)

    def encode_text(self, word: Tensor) -> TextFeatures:
        self.spoken.append(len(word))
        sentence = (word * torch.arange(1, self.word_len + 1)).sum(1, keepdim=True).float()
        return TextFeatures(word.float(), sentence, word == 0)

    def decode(self, image: ImageFeatures, text: TextFeatures) -> Tensor:
        self.decoded.append(len(text.sentence))
        self.dtypes.add((torch.ones(1, 1) @ torch.ones(1, 1)).dtype)
        return image.f3 + self.tilt * torch.sin(text.sentence)[:, :, None, None]


def frames(count: int, size: int = 32) -> FrameBatch:
    rgb = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    one = scene(actor(1, "sedan", 20, 0)).take([0] * count)
    return replace(one, rgb=rgb)


def test_batches_equal_one_call_per_phrase_in_order():
    batch, asked = frames(5), [PHRASES[:2], (), PHRASES[1:], PHRASES[3:], PHRASES]
    network = LightNetwork()
    masks = CrisSegmenter.of(network, CrisSettings(frames=3, phrases=4)).segment(batch, asked)
    one_by_one = [
        CrisSegmenter.of(LightNetwork(), CrisSettings()).segment(batch.take([row]), [[phrase]])
        for row, named in enumerate(asked)
        for phrase in named
    ]
    assert masks.dtype == np.uint8
    assert (masks == np.concatenate(one_by_one)).all()
    assert len(np.unique(masks.reshape(len(masks), -1), axis=0)) == len(masks)


def test_each_frame_and_each_phrase_is_encoded_once():
    network = LightNetwork()
    segmenter = CrisSegmenter.of(network, CrisSettings(frames=3, phrases=4))
    segmenter.segment(frames(5), [PHRASES[:2], (), PHRASES[1:], PHRASES[3:], PHRASES])
    assert network.pictures == [3, 1]
    assert sum(network.spoken) == len(PHRASES)
    assert network.decoded == [4, 2, 4]
    segmenter.segment(frames(1), [PHRASES])
    assert sum(network.spoken) == len(PHRASES)


def test_nothing_asked_nothing_computed():
    network = LightNetwork()
    assert CrisSegmenter.of(network, CrisSettings()).segment(frames(2), [(), ()]).shape == (0, 32, 32)
    assert not network.pictures


def test_precision_is_autocast_and_part_of_the_identity():
    made = {}
    for precision in ("fp32", "bf16"):
        network = LightNetwork()
        made[precision] = CrisSegmenter.of(network, CrisSettings(precision=precision))
        made[precision].segment(frames(1), [PHRASES])
        assert network.dtypes == {torch.float32 if precision == "fp32" else torch.bfloat16}
    assert made["fp32"].identity != made["bf16"].identity


def test_the_identity_names_the_weights():
    network = LightNetwork()
    first = CrisSegmenter.of(network, CrisSettings()).identity
    assert first == CrisSegmenter.of(LightNetwork(), CrisSettings(device="cpu", frames=1, phrases=1)).identity
    with torch.no_grad():
        network.tilt += 1e-3
    assert first != CrisSegmenter.of(network, CrisSettings()).identity
    assert CrisSegmenter.of(LightNetwork(22), CrisSettings()).identity["word_len"] == 22


def test_settings_that_cannot_be_met():
    with pytest.raises(SemoreError, match=r"cris\.frames is 0"):
        CrisSegmenter(CrisSettings(frames=0))
    if not torch.cuda.is_available():
        with pytest.raises(SemoreError, match="no GPU"):
            CrisSegmenter.of(LightNetwork(), CrisSettings(device="cuda"))


def test_the_memory_of_phrases_is_bounded_and_keeps_what_is_in_use():
    encoded: list[list[str]] = []

    def encode(phrases: list[str]) -> tuple[Tensor, Tensor]:
        encoded.append(phrases)
        tokens = tokenize(phrases, 17)
        return tokens, tokens.sum(1)

    memory = PhraseMemory(encode, capacity=2)
    tokens, sums = memory(["a", "b", "c", "a"])
    assert (tokens == tokenize(["a", "b", "c", "a"], 17)).all()
    assert (sums == tokens.sum(1)).all()
    for asked in (["c", "a"], ["b"], ["a"]):
        memory(asked)
    assert encoded == [["a", "b", "c"], ["b"]]
    memory(["c"])
    assert encoded[2:] == [["c"]]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), st.integers(3, 22))
@settings(max_examples=200, deadline=None)
def test_any_text_becomes_start_pieces_end_padding(phrase, word_len):
    (row,) = tokenize([phrase], word_len).tolist()
    assert len(row) == word_len
    assert row[0] == 49406
    assert row.count(49407) == 1
    end = row.index(49407)
    assert end == max(range(word_len), key=row.__getitem__)
    assert not any(row[end + 1 :])


def test_tokens_are_lower_cased_and_cut():
    assert (tokenize(["Red  CAR"], 17) == tokenize(["red car"], 17)).all()
    (cut,) = tokenize(["car " * 40], 17).tolist()
    assert cut == [49406, *[1615] * 15, 49407]


@pytest.mark.parametrize(("height", "width"), [(128, 128), (100, 160), (90, 45), (720, 1280)])
def test_a_picture_is_placed_and_its_mask_returned(height, width):
    frame = np.zeros((height, width, 3), np.uint8)
    top, left = height // 5, width // 2
    frame[top : 2 * top, left : left + width // 4] = 255
    square = letterbox(frame)
    assert square.shape == (SIZE, SIZE, 3)
    scale = SIZE / max(height, width)
    margin = int((SIZE - scale * min(height, width)) / 2 - 2 * scale)  # cubic reaches two of the frame's pixels
    if margin > 0:
        outside = square[:margin] if width > height else square[:, :margin]
        assert (outside == np.rint(BORDER)).all()
    bright = torch.from_numpy(square[:, :, 0]).float()[None, None]
    logits = torch.nn.functional.interpolate(bright, (104, 104), mode="bilinear", align_corners=True) / 16 - 8
    returned = soft_mask(restore(logits, height, width))[0] > 127
    truth = frame[:, :, 0] > 127
    assert (returned & truth).sum() / (returned | truth).sum() > 0.85


def test_soft_masks_are_clipped():
    assert soft_mask(np.array([-0.07, 0.0, 0.5, 1.0, 1.1], np.float32)).tolist() == [0, 0, 128, 255, 255]
