"""Annotating networks on a GPU, for perf.gpu: CRIS, CRIS-tiny, and a network of Qwen2-VL's shape with random weights,
asked by the code that asks the published one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from perf.clock import rate, spread, take_turns
from semore.annotate.interfaces import FrameBatch
from semore.annotate.segment.cris import CRIS
from semore.annotate.segment.cris.segmenter import CrisSegmenter
from semore.annotate.segment.cris_tiny.segmenter import CrisTinySegmenter
from semore.annotate.settings import CrisSettings, CrisTinySettings, Device, QwenSettings
from semore.annotate.vlm.qwen2_vl import IMAGE, Qwen2VL, _Loaded

ROOM: Final = 8 * 2**30
"""Bytes that the language model's weights (4.4 GB) and its work may take."""
PHRASES: Final = ("car ahead", "pedestrian", "truck", "cyclist")
PROMPT: Final = "list the objects in this picture that affect how to drive"
QWEN2_VL_2B: Final = {
    "text_config": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {"depth": 32, "embed_dim": 1280, "num_heads": 16, "hidden_size": 1536, "mlp_ratio": 4},
}  # fmt: skip
"""Of the published Qwen2-VL-2B-Instruct: 2.2 billion parameters."""
SPECIAL: Final = ("<|pad|>", "<|im_end|>", IMAGE, "<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<|unknown|>")
CHAT: Final = (
    "{% for message in messages %}<|vision_start|><|image_pad|><|vision_end|> {{ message.content[1].text }}{% endfor %}"
)


def segmenters(device: Device, frames: int, rounds: int) -> dict[str, Any]:
    """Frames per second, 4 phrases each."""
    rgb = np.random.default_rng(0).integers(0, 256, (frames, 128, 128, 3), np.uint8)
    empty: NDArray[Any] = np.zeros((frames, 16), np.uint8)
    none: NDArray[Any] = np.zeros((frames, 0), np.float32)
    batch = FrameBatch(rgb, empty, empty, rgb[..., 0], rgb[..., 0].astype(np.uint16), none, none)
    asked = [PHRASES] * frames
    torch.manual_seed(0)
    network = CRIS()
    made: dict[str, CrisSegmenter | CrisTinySegmenter] = {
        "cris_fp32": CrisSegmenter.of(network, CrisSettings(device=device)),
        "cris_bf16": CrisSegmenter.of(network, CrisSettings(device=device, precision="bf16")),
        "cris_tiny": CrisTinySegmenter(CrisTinySettings(device=device)),
    }
    for each in made.values():
        each.segment(batch, asked)
    bodies = {name: lambda each=each: void(each.segment(batch, asked)) for name, each in made.items()}
    laps = take_turns(bodies, rounds, frames)
    return {name: rate(laps, name) for name in made} | {"cris_bf16_over_fp32": spread(laps, "cris_fp32", "cris_bf16")}


def language(
    device: torch.device, shape: Mapping[str, Any] = QWEN2_VL_2B, frames: int = 8, tokens: int = 32, rounds: int = 2,
    upscale: int = 448,
) -> dict[str, Any]:  # fmt: skip
    """Tokens per second, all frames at once and one at a time."""
    settings = QwenSettings(batch=frames, upscale=upscale, max_new_tokens=tokens)
    together, alone = RandomQwen2VL(settings, shape, device), RandomQwen2VL(settings, shape, device)
    together.load()
    alone._loaded, alone._batch = together._loaded, 1
    rgb = np.random.default_rng(0).integers(0, 256, (frames, 128, 128, 3), np.uint8)
    asked = [PROMPT] * frames
    bodies = {
        "batched": lambda: void(together.answer(rgb, asked)),
        "single": lambda: void(alone.answer(rgb, asked)),
    }
    assert together._loaded is not None
    parameters = sum(each.numel() for each in together._loaded.model.parameters())
    bodies["batched"]()
    laps = take_turns(bodies, rounds, frames * tokens)
    return {
        "parameters": parameters,
        "batched_per_s": rate(laps, "batched"),
        "single_per_s": rate(laps, "single"),
        "batched_over_single": spread(laps, "single", "batched"),
    }


def void(_: object) -> None:
    """What a body returns would be taken for its seconds."""


class RandomQwen2VL(Qwen2VL):
    """The engine over random weights and a tokenizer of a few words, made where they are computed with; every answer
    has as many tokens as may be."""

    def __init__(self, settings: QwenSettings, shape: Mapping[str, Any], device: torch.device) -> None:
        super().__init__(settings)
        self._shape, self._device = shape, device

    def _load(self) -> _Loaded:
        hub: Any = transformers
        tokenizer = word_tokenizer()
        ids = dict(zip(SPECIAL, range(len(SPECIAL)), strict=True))
        config = hub.Qwen2VLConfig(
            **self._shape, image_token_id=ids[IMAGE], video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        )  # fmt: skip
        torch.manual_seed(0)
        with torch.device(self._device):
            model = hub.AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16).eval()
        count = self._settings.max_new_tokens
        model.generation_config = hub.GenerationConfig(
            do_sample=False, eos_token_id=[ids["<|im_end|>"]], pad_token_id=ids["<|pad|>"], min_new_tokens=count
        )
        return _Loaded(model, tokenizer, hub.Qwen2VLImageProcessorPil(), self._device)


def word_tokenizer() -> Any:
    """Of the prompt's words; what the model makes up beside them is unknown to it."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *PROMPT.split()))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    hub: Any = transformers
    return hub.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>", unk_token="<|unknown|>",
        additional_special_tokens=list(SPECIAL[2:6]), chat_template=CHAT,
    )  # fmt: skip
