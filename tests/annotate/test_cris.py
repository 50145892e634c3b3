"""CRIS against the reference (keys, every stage, the whole way), and what batching and padding must not change."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from semore.annotate.segment.cris import CRIS
from semore.annotate.segment.cris.network import TextFeatures
from semore.annotate.segment.cris.phrases import tokenize
from semore.annotate.segment.cris.picture import prepare, restore
from semore.datasets.errors import SemoreError

DATA = Path(__file__).parents[1] / "data"


def weights_of(key: str, shape: torch.Size) -> Tensor:
    """The rule behind the reference outputs: a tensor is a function of its key and shape."""
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()) & 0x7FFFFFFF)
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.long)
    if not shape:
        return torch.tensor(4.6052)
    if leaf == "running_var":
        return torch.rand(shape, generator=generator) + 0.5
    if leaf == "weight" and len(shape) == 1:
        return torch.rand(shape, generator=generator) * 0.4 + 0.8
    if leaf == "running_mean":
        scale = 0.1
    elif len(shape) == 1 or "embedding" in key:
        scale = 0.02
    else:
        scale = (1.0 / shape[1:].numel()) ** 0.5
    return torch.randn(shape, generator=generator) * scale


@pytest.fixture(scope="module")
def network() -> Iterator[CRIS]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads wait for each other on a busy machine
    with torch.device("meta"):
        made = CRIS()
    state = {key: weights_of(key, value.shape) for key, value in made.state_dict().items()}
    made.load_state_dict(state, assign=True)
    yield made.requires_grad_(False).eval()
    torch.set_num_threads(threads)


def reference_input() -> tuple[Tensor, Tensor]:
    """Two pictures of noise (2, 3, 416, 416), and token ids (2, 17) of three and five pieces."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, 416, 416, generator=generator)
    word = torch.zeros(2, 17, dtype=torch.long)
    for row, pieces in enumerate((3, 5)):
        word[row, 0] = 49406
        word[row, 1 : 1 + pieces] = torch.randint(1, 49405, (pieces,), generator=generator)
        word[row, 1 + pieces] = 49407
    return image, word


def relative(ours: Tensor | np.ndarray, reference: Tensor | np.ndarray) -> float:
    """max |Δ| / max |reference|."""
    ours, reference = np.asarray(ours), np.asarray(reference)
    assert ours.shape == reference.shape
    return float(np.abs(ours - reference).max() / np.abs(reference).max())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_keys_shapes_and_types_are_the_official_ones(network):
    lines = [line.split("\t") for line in (DATA / "cris_keys.txt").read_text().splitlines()]
    ours = network.state_dict()
    assert [(key, str(tuple(value.shape)), f"{value.dtype}"[6:]) for key, value in ours.items()] == [
        (key, shape, dtype) for key, shape, dtype in lines
    ]
    assert len(ours) == 662
    assert sum(parameter.numel() for parameter in network.parameters()) == 146_849_122


def test_every_stage_gives_the_reference(network, record_property):
    reference = np.load(DATA / "cris_seed0.npz")
    image, word = reference_input()
    assert (word.numpy() == reference["word"]).all()
    total = sum(value.double().sum().item() for value in network.state_dict().values())
    assert total == pytest.approx(reference["weight_sum"].item())
    with torch.inference_mode():
        c3, c4, c5 = network.backbone.visual(image)
        text = network.encode_text(word)
        fused = network.neck(network.neck.project(c3, c4, c5), text.sentence)
        places = network.decoder(fused, text.words, text.padding)
        logits = network.proj(places, text.sentence)
    stages = {
        "c3_00": c3[:, :8],
        "c4_00": c4[:, :8],
        "c5": c5[:, :64],
        "words": text.words,
        "state": text.sentence,
        "fq": fused[:, :32],
        "dec": places[:, :32].flatten(2),
        "out": logits,
    }
    errors = {name: relative(stage, reference[name]) for name, stage in stages.items()}
    record_property("parity", errors)
    print(errors)
    assert max(errors.values()) <= 1e-4


@pytest.mark.parametrize("picture", ["0", "1"])
def test_the_whole_way_gives_the_reference(network, picture, record_property):
    reference = np.load(DATA / "cris_pipeline_seed0.npz")
    frame, phrases = reference[f"image{picture}"], reference[f"phrases{picture}"].tolist()
    placed, word = prepare([frame], torch.device("cpu")), tokenize(phrases, 17)
    assert (word.numpy() == reference[f"tokens{picture}"]).all()
    assert relative(placed[0, :, ::8, ::8], reference[f"input{picture}"]) <= 1e-4
    with torch.inference_mode():
        image = network.encode_image(placed).take(torch.zeros(len(phrases), dtype=torch.long))
        logits = network.decode(image, network.encode_text(word))
    error = relative(restore(logits, *frame.shape[:2]), reference[f"mask{picture}"])
    record_property("parity", error)
    print(error)
    assert error <= 1e-3


@torch.inference_mode()
def test_phrases_decoded_together_equal_one_call_per_phrase(network):
    image, word = noise(2, 3, 64, 64), tokenize(["car", "a pedestrian crossing the road"], 17)
    rows = torch.tensor([0, 0, 1])
    asked = torch.tensor([0, 1, 1])
    text = TextFeatures(*(feature[asked] for feature in network.encode_text(word)))
    together = network.decode(network.encode_image(image).take(rows), text)
    for logits, row, phrase in zip(together, rows, asked, strict=True):
        assert relative(logits, network(image[row][None], word[phrase][None])[0]) < 1e-4
    assert relative(together[0], together[1]) > 1e-3  # phrases matter
    assert relative(together[1], together[2]) > 1e-3  # pictures matter


@torch.inference_mode()
def test_only_words_that_stand_there_are_heard(network):
    image, text = network.encode_image(noise(1, 3, 64, 64)), network.encode_text(tokenize(["red car"], 17))
    assert text.padding.tolist() == [[False] * 4 + [True] * 13]
    logits = network.decode(image, text)
    for place, heard in ((3, True), (4, False), (16, False)):
        words = text.words.clone()
        words[:, place] += 5 * noise(512)
        assert (relative(network.decode(image, text._replace(words=words)), logits) > 1e-4) == heard


@torch.inference_mode()
def test_a_sentence_ends_at_its_end_token(network):
    word = tokenize(["red car"], 17)
    longer = word.clone()
    longer[0, 4:7] = torch.tensor([320, 518, 736])
    ours, theirs = network.encode_text(word), network.encode_text(longer)
    assert relative(ours.sentence, theirs.sentence) < 1e-5
    assert relative(ours.words[:, :4], theirs.words[:, :4]) < 1e-5
    assert relative(ours.words[:, 4:7], theirs.words[:, 4:7]) > 0.01


@torch.inference_mode()
def test_inputs_of_any_multiple_of_32(network):
    word = tokenize(["car"], 17)
    assert network(noise(1, 3, 64, 96), word).shape == (1, 1, 16, 24)
    with pytest.raises(ValueError, match="multiples of 32"):
        network(noise(1, 3, 64, 100), word)
    with pytest.raises(ValueError, match="takes 17"):
        network(noise(1, 3, 64, 64), tokenize(["car"], 22))


def test_word_len_changes_no_tensor():
    with torch.device("meta"):
        shapes = [{key: value.shape for key, value in CRIS(length).state_dict().items()} for length in (17, 22)]
        assert shapes[0] == shapes[1]
        with pytest.raises(SemoreError, match="word_len is 78"):
            CRIS(78)


@torch.inference_mode()
def test_bf16_stays_close(network):
    image, word = noise(1, 3, 64, 64), tokenize(["a pedestrian crossing the road"], 17)
    exact = network(image, word)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(image, word).float()
    assert 0 < relative(rough, exact) < 0.1
    assert (rough - exact).abs().mean() < 0.02 * exact.abs().max()
