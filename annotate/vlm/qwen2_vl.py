"""Qwen2-VL in this process through transformers, without torchvision: greedy answers to pictures and prompts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError

from semore.annotate.checkpoint import Checkpoint, find_checkpoint
from semore.annotate.settings import QwenSettings
from semore.annotate.vlm.engine import Answer
from semore.annotate.vlm.pictures import picture, preprocessing
from semore.datasets.device import torch_device
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.records import Identity
from semore.extras import require

MODEL_TYPE: Final = "qwen2_vl"
IMAGE: Final = "<|image_pad|>"


class _Loaded(NamedTuple):
    model: Any
    tokenizer: Any
    images: Any
    device: torch.device


class Qwen2VL:
    """The VisionLanguage engine of this process (protocol: annotate.vlm.engine).

    Answers are pure greedy: the sampling and penalties of the checkpoint's generation settings are left out.
    """

    def __init__(self, settings: QwenSettings) -> None:
        self._settings = settings
        self._batch = max(1, settings.batch)
        self._loaded: _Loaded | None = None
        self._loading = threading.Lock()

    def __reduce__(self) -> tuple[type[Qwen2VL], tuple[QwenSettings]]:
        """A copy for another process is made there from the settings, as seams.Producers says."""
        return type(self), (self._settings,)

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return find_checkpoint(self._settings.model, self._settings.revision)

    @property
    def identity(self) -> Identity:
        """The checkpoint by content or commit, and all the rest that can change an answer. SemoreError when there is
        no such checkpoint, here or on the hub: it would be known by another name once it is.

        transformers counts by its major version: the lock pins the rest, and an update need not redo every frame.
        The device and the sub-batch do not count, although they move the last bits of a GPU's answers.
        """
        self._checkpoint.require()
        return {
            "kind": "qwen2-vl",
            "engine": f"transformers {transformers.__version__.partition('.')[0]}",
            "model": self._checkpoint.name,
            "dtype": self._dtype_name,
            "quantisation": self._settings.quantisation,
            "preprocessing": preprocessing(self._settings.upscale),
            "decoding": "greedy",
        }

    @property
    def max_new_tokens(self) -> int:
        """The settings' cap of a description."""
        return self._settings.max_new_tokens

    @property
    def _dtype_name(self) -> str:
        if self._settings.dtype != "auto":
            return self._settings.dtype
        config = self._checkpoint.config
        return str(config.get("dtype") or config.get("torch_dtype") or "auto")

    def load(self) -> None:
        """Load tokenizer, image processor and weights, once. SemoreError naming the model and what to do."""
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load()

    def answer(self, rgb: NDArray[np.uint8], prompts: Sequence[str], max_new_tokens: int | None = None) -> list[Answer]:
        """See VisionLanguage.answer. Out of CUDA memory: goes on with half the sub-batch, for good; SemoreError when a
        single frame is too much."""
        if len(rgb) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts for {len(rgb)} pictures")
        self.load()
        answers: list[Answer] = [Answer("")] * len(prompts)
        rows = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))  # alike lengths need little padding
        while rows:
            part = rows[: self._batch]
            try:
                found = self._generate([rgb[row] for row in part], [prompts[row] for row in part], max_new_tokens)
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    raise SemoreError(
                        f"model {self._settings.model}: out of memory with a single frame ({error}); free the GPU, set "
                        "qwen.quantisation=nf4, or lower qwen.upscale"
                    ) from error
                self._batch = len(part) // 2
                continue
            for row, one in zip(part, found, strict=True):
                answers[row] = one
            rows = rows[len(part) :]
        return answers

    def _generate(self, frames: Sequence[NDArray[np.uint8]], prompts: Sequence[str], cap: int | None) -> list[Answer]:
        inputs = self.inputs(frames, prompts)
        assert self._loaded is not None
        model, tokenizer = self._loaded.model, self._loaded.tokenizer
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=cap or self.max_new_tokens)
        new = output[:, inputs["input_ids"].shape[1] :].cpu()
        ended = torch.isin(new, torch.tensor(model.generation_config.eos_token_id)).any(1).tolist()
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        return [Answer(text, cut=not end) for text, end in zip(texts, ended, strict=True)]

    def inputs(self, frames: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """The model's inputs for B frames (H, W, 3) uint8 and their prompts, on its device: input_ids, attention_mask
        and mm_token_type_ids (B, L) left-padded, pixel_values (patches, 1176), image_grid_thw (B, 3)."""
        self.load()
        assert self._loaded is not None
        model, tokenizer, images, device = self._loaded
        shown = images(images=[picture(frame, self._settings.upscale) for frame in frames], return_tensors="pt")
        tokens = (shown["image_grid_thw"].prod(1) // images.merge_size**2).tolist()
        texts = [
            self._chat(prompt).replace(IMAGE, IMAGE * count) for prompt, count in zip(prompts, tokens, strict=True)
        ]
        batch = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
        if not bool(batch["attention_mask"][:, -1].all()):
            raise RuntimeError("the tokenizer padded on the right: answers would change")
        batch["mm_token_type_ids"] = (batch["input_ids"] == model.config.image_token_id).long()
        if batch["mm_token_type_ids"].sum(1).tolist() != tokens:
            raise ValueError(f"a prompt holds {IMAGE}")
        return {name: tensor.to(device) for name, tensor in (*batch.items(), *shown.items())}

    def _chat(self, prompt: str) -> str:
        assert self._loaded is not None
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        messages = [{"role": "user", "content": content}]
        return str(self._loaded.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _load(self) -> _Loaded:
        checkpoint, settings = self._checkpoint, self._settings
        checkpoint.require()
        if (found := checkpoint.config.get("model_type")) != MODEL_TYPE:
            raise SemoreError(f"model {settings.model}: its config.json says model_type {found!r}, not {MODEL_TYPE!r}")
        device = _device(settings)
        dtype = self._dtype_name if self._dtype_name == "auto" else getattr(torch, self._dtype_name)
        hub: Any = transformers  # its factories are untyped
        extra: dict[str, Any] = {}
        if settings.quantisation == "nf4":
            compute = torch.bfloat16 if dtype == "auto" else dtype
            extra["device_map"] = {"": 0}
            extra["quantization_config"] = hub.BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute
            )
        where = {"pretrained_model_name_or_path": checkpoint.source, "revision": checkpoint.revision or "main"}
        try:
            tokenizer = hub.AutoTokenizer.from_pretrained(**where)
            images = hub.Qwen2VLImageProcessorPil.from_pretrained(**where)
            model, report = hub.AutoModelForImageTextToText.from_pretrained(
                **where, dtype=dtype, output_loading_info=True, **extra
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            trouble = " ".join(str(error).split())[:300]
            raise SemoreError(
                f"model {settings.model}: cannot be loaded ({type(error).__name__}: {trouble}); it must be a complete "
                "Qwen2-VL checkpoint: config, weights, tokenizer and preprocessor files"
            ) from error
        if lost := [*report["missing_keys"], *report["mismatched_keys"]]:
            raise SemoreError(f"model {settings.model}: {len(lost)} weights are missing, e.g. {lost[0]}; copy it again")
        if not tokenizer.chat_template:
            raise SemoreError(f"model {settings.model}: no chat template; add the checkpoint's chat_template file")
        ends = model.generation_config.eos_token_id
        ends = tokenizer.eos_token_id if ends is None else ends
        model.generation_config = hub.GenerationConfig(
            do_sample=False,
            eos_token_id=ends if isinstance(ends, list) else [ends],
            pad_token_id=tokenizer.pad_token_id,
        )
        return _Loaded(model.to(device) if not extra else model, tokenizer, images, device)


def _device(settings: QwenSettings) -> torch.device:
    """The device to compute on; SemoreError when the settings ask for one, or for packages, that are not there."""
    device = torch_device(settings.device)
    if settings.quantisation == "nf4":
        if device.type != "cuda":
            raise SemoreError("qwen.quantisation nf4 needs a CUDA GPU; set qwen.quantisation=none")
        require("gpu")
    return device
