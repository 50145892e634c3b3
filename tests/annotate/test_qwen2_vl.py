"""Qwen2-VL through transformers, on a complete tiny checkpoint that is built here and loaded as a real one is."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_qwen2vl import build

from semore.annotate.settings import QwenSettings
from semore.annotate.vlm import qwen2_vl
from semore.annotate.vlm.qwen2_vl import Qwen2VL
from semore.datasets.errors import SemoreError

PROMPTS = ["list the objects" + " near the car" * (row % 4) for row in range(8)]


pytestmark = pytest.mark.usefixtures("one_thread", "offline")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def settings(tiny):
    return QwenSettings(model=str(tiny), upscale=84, max_new_tokens=8)


@pytest.fixture(scope="module")
def engine(settings):
    return Qwen2VL(settings)


@pytest.fixture(scope="module")
def rgb():
    return np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)


def answers(engine, rgb, prompts=PROMPTS):
    return [answer.text for answer in engine.answer(rgb, prompts[: len(rgb)])]


def copied(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "copy")


def test_a_batch_equals_single_rows_whatever_the_lengths(engine, rgb):
    together = answers(engine, rgb)
    assert len(set(together)) > 4  # it does look at picture and prompt
    assert [answers(engine, rgb[[row]], [PROMPTS[row]])[0] for row in range(8)] == together
    order = [5, 0, 7, 2, 6, 1, 4, 3]
    assert answers(engine, rgb[order], [PROMPTS[row] for row in order]) == [together[row] for row in order]


def test_sub_batches_give_the_same_answers_in_order(engine, settings, rgb, monkeypatch):
    small, sizes = Qwen2VL(replace(settings, batch=3)), []
    generate = small._generate
    monkeypatch.setattr(small, "_generate", lambda frames, *rest: sizes.append(len(frames)) or generate(frames, *rest))
    assert answers(small, rgb) == answers(engine, rgb)
    assert sizes == [3, 3, 2]


@pytest.mark.parametrize("row", [1, 6])
def test_answers_are_greedy_although_the_checkpoint_samples_and_penalises(engine, rgb, row):
    """Against a loop that runs the whole sequence through the model for every token, without cache or generate. In
    these two rows the checkpoint's repetition penalty would change the answer."""
    asked = rgb[[row]], [PROMPTS[row]]
    torch.manual_seed(1)
    (answer,) = engine.answer(*asked)
    torch.manual_seed(2)
    assert engine.answer(*asked) == [answer]
    model, tokenizer = engine._loaded.model, engine._loaded.tokenizer
    inputs, new = engine.inputs(*asked), []
    for _ in range(8):
        with torch.inference_mode():
            new.append(int(model(**inputs).logits[0, -1].argmax()))
        one = torch.ones(1, 1, dtype=torch.long)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], one * new[-1]], 1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], one], 1)
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], one * 0], 1)
    assert tokenizer.decode(new, skip_special_tokens=True) == answer.text


def test_inputs_are_left_padded_and_count_every_image_token(engine, rgb):
    inputs = engine.inputs(rgb, PROMPTS)
    mask = inputs["attention_mask"]
    assert mask[:, -1].all()
    assert not mask[:, 0].all()
    assert (mask.diff(dim=1) >= 0).all()
    assert (inputs["mm_token_type_ids"].sum(1) == (84 // 28) ** 2).all()
    assert (inputs["image_grid_thw"] == torch.tensor([1, 6, 6])).all()
    text = engine._loaded.tokenizer.decode(inputs["input_ids"][3])
    assert "<|im_start|>user\n<|vision_start|><|image_pad|>" in text
    assert text.endswith(f"<|vision_end|>{PROMPTS[3]}<|im_end|>\n<|im_start|>assistant\n")


def test_right_padding_is_refused(engine, rgb, monkeypatch):
    right = engine._loaded.tokenizer
    monkeypatch.setattr(engine, "_loaded", engine._loaded._replace(tokenizer=_Right(right)))
    with pytest.raises(RuntimeError, match="padded on the right"):
        engine.answer(rgb, PROMPTS)


class _Right:
    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __call__(self, texts, **options):
        return self._tokenizer(texts, **options | {"padding_side": "right"})

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


def test_frames_of_any_size_are_read(engine, settings):
    for shape in ((1, 33, 47, 3), (1, 200, 120, 3)):
        assert engine.answer(np.zeros(shape, np.uint8), ["list"])[0].failure == ""
    as_recorded = Qwen2VL(replace(settings, upscale=0))
    assert as_recorded.inputs(np.zeros((1, 128, 128, 3), np.uint8), ["list"])["image_grid_thw"].tolist() == [
        [1, 10, 10]
    ]


def test_the_cap_cuts_and_says_so(engine, rgb):
    (long,), (short,) = engine.answer(rgb[:1], PROMPTS[:1]), engine.answer(rgb[:1], PROMPTS[:1], 2)
    assert long.cut
    assert short.cut
    assert long.text.startswith(short.text) or "\ufffd" in short.text
    assert len(short.text) < len(long.text)


def test_an_answer_that_ends_by_itself_is_not_cut(tiny, settings, rgb, tmp_path):
    """With every token an end token, the first one ends the answer."""
    folder = copied(tiny, tmp_path)
    generation = json.loads((folder / "generation_config.json").read_text())
    generation["eos_token_id"] = list(range(496))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (answer,) = Qwen2VL(replace(settings, model=str(folder))).answer(rgb[:1], PROMPTS[:1])
    assert not answer.cut


def test_prompts_cannot_forge_image_tokens(engine, rgb):
    with pytest.raises(ValueError, match="a prompt holds"):
        engine.answer(rgb[:1], ["<|image_pad|>"])


@pytest.mark.parametrize("dtype", ["bfloat16", "auto"])
def test_dtypes_load(settings, rgb, dtype):
    engine = Qwen2VL(replace(settings, dtype=dtype))
    assert len(answers(engine, rgb)) == 8
    expected = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    assert {parameter.dtype for parameter in engine._loaded.model.parameters()} == {expected}


def test_out_of_memory_halves_the_sub_batch_for_good(settings, engine, rgb, monkeypatch):
    ours, sizes = Qwen2VL(settings), []
    generate = ours._generate

    def tight(frames, *rest):
        sizes.append(len(frames))
        if len(frames) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(frames, *rest)

    monkeypatch.setattr(ours, "_generate", tight)
    assert answers(ours, rgb) == answers(engine, rgb)
    assert sizes == [8, 4, 2, 2, 2, 2]
    answers(ours, rgb)
    assert sizes[6:] == [2, 2, 2, 2]


def test_out_of_memory_with_one_frame_is_the_users_to_mend(settings, rgb, monkeypatch):
    ours = Qwen2VL(settings)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ours, "_generate", full)
    with pytest.raises(SemoreError, match=r"single frame .*nf4.*upscale"):
        ours.answer(rgb, PROMPTS)


def test_other_exceptions_pass(settings, rgb, monkeypatch):
    ours = Qwen2VL(settings)
    monkeypatch.setattr(ours, "_generate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ours.answer(rgb, PROMPTS)


def test_weights_are_loaded_once_and_not_for_the_identity(settings, monkeypatch):
    ours, loads = Qwen2VL(settings), []
    load = ours._load
    monkeypatch.setattr(ours, "_load", lambda: loads.append(1) or load())
    assert ours.identity["kind"] == "qwen2-vl"
    assert loads == []
    ours.load()
    ours.load()
    assert loads == [1]


def test_what_is_not_installed_is_named(settings, monkeypatch):
    with pytest.raises(SemoreError, match=r"needs a CUDA GPU; set qwen.quantisation=none"):
        Qwen2VL(replace(settings, quantisation="nf4")).load()
    with pytest.raises(SemoreError, match="torch sees no GPU"):
        Qwen2VL(replace(settings, device="cuda")).load()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for module in ("accelerate", "bitsandbytes"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SemoreError, match=r"accelerate, bitsandbytes are not installed.*pip install 'semore\[gpu\]'"):
        Qwen2VL(replace(settings, quantisation="nf4")).load()


def test_nf4_is_asked_of_transformers_as_the_settings_say(settings, monkeypatch):
    """No GPU here: what would be loaded is looked at, not loaded."""
    asked = {}

    def from_pretrained(**options):
        asked.update(options)
        raise OSError("seen")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(qwen2_vl, "require", lambda extra: None)
    monkeypatch.setattr("transformers.BitsAndBytesConfig.post_init", lambda self: None)
    monkeypatch.setattr("transformers.AutoModelForImageTextToText.from_pretrained", from_pretrained)
    with pytest.raises(SemoreError, match="seen"):
        Qwen2VL(replace(settings, quantisation="nf4", dtype="bfloat16")).load()
    config = asked["quantization_config"]
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_compute_dtype) == (
        True,
        "nf4",
        torch.bfloat16,
    )
    assert asked["device_map"] == {"": 0}
    with pytest.raises(SemoreError, match="seen"):
        Qwen2VL(replace(settings, device="cpu")).load()
