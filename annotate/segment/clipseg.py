"""CLIPSeg through transformers as a Segmenter, with weights that anybody can download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, CLIPSegForImageSegmentation

from semore.annotate.checkpoint import Checkpoint, find_checkpoint
from semore.annotate.interfaces import FrameBatch
from semore.annotate.segment.batching import PhraseMemory, in_groups
from semore.annotate.segment.cris.picture import soft_mask
from semore.annotate.settings import ClipSegSettings
from semore.datasets.device import torch_device
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.records import Identity

PROCESSING_VERSION: Final = 1
"""Part of the identity: raise it with every change in this file that changes a mask."""
MODEL_TYPE: Final = "clipseg"
"""What a CLIPSeg checkpoint's config.json calls itself."""


class ClipSegSegmenter:
    """CLIPSeg: a frozen CLIP encodes the frame once, and a light decoder draws each phrase. It sees rgb only."""

    def __init__(self, settings: ClipSegSettings) -> None:
        """SemoreError for a batch below 1; the weights come with `load`."""
        if settings.batch < 1:
            raise SemoreError(f"clipseg.batch is {settings.batch}; it must be at least 1")
        self.settings = settings
        self._model: Any = None

    def __reduce__(self) -> tuple[type[ClipSegSegmenter], tuple[ClipSegSettings]]:
        """A copy for another process is made there from the settings, as seams.Producers says."""
        return type(self), (self.settings,)

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return find_checkpoint(self.settings.model, self.settings.revision)

    @property
    def identity(self) -> Identity:
        """Model by commit or by a local folder's files, version of the processing, precision."""
        return {
            "role": "segmenter",
            "kind": "clipseg",
            "model": self._checkpoint.name,
            "processing": PROCESSING_VERSION,
            "precision": self.settings.precision,
            "privileged": False,
        }

    def load(self) -> None:
        """Read model, tokenizer and image processor (transformers' own cache serves a hub id without a network);
        SemoreError when one is missing, broken, or not CLIPSeg's."""
        if self._model is not None:
            return
        checkpoint = self._checkpoint
        checkpoint.require()
        if (kind := checkpoint.config.get("model_type")) != MODEL_TYPE:
            raise SemoreError(f"clipseg.model {self.settings.model!r} is a {kind} model; a {MODEL_TYPE} one is needed")
        self._device = torch_device(self.settings.device)
        loaders: tuple[Any, Any, Any] = CLIPSegForImageSegmentation, AutoTokenizer, AutoImageProcessor
        segmenter, tokenizer, processor = loaders
        where = {"pretrained_model_name_or_path": checkpoint.source, "revision": checkpoint.revision or "main"}
        try:
            model, found = segmenter.from_pretrained(**where, dtype=torch.float32, output_loading_info=True)
            self._tokenizer, self._processor = tokenizer.from_pretrained(**where), processor.from_pretrained(**where)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SemoreError(
                f"clipseg.model {self.settings.model!r} cannot be loaded ({reason}); it needs config.json, weights, "
                "tokenizer files and preprocessor_config.json"
            ) from None
        if found["missing_keys"]:
            missing = ", ".join(sorted(found["missing_keys"])[:3])
            raise SemoreError(f"clipseg.model {self.settings.model!r} lacks weights ({missing}, …); copy it again")
        self._phrases = PhraseMemory(self._encode_text)
        self._model = model.requires_grad_(False).eval().to(self._device)

    @torch.inference_mode()
    def segment(self, batch: FrameBatch, phrases: Sequence[Sequence[str]]) -> NDArray[np.uint8]:
        """(M, H, W) uint8, frame by frame, each frame's phrases in order."""
        self.load()
        return in_groups(batch.rgb, phrases, self.settings.batch, self._segment)

    def _segment(self, rgb: NDArray[np.uint8], phrases: Sequence[str], rows: Tensor) -> NDArray[np.uint8]:
        """Frames (F, H, W, 3) seen together; phrase i is asked about frame rows[i]."""
        size, step = rgb.shape[1:3], self.settings.batch
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            seen = self._encode_image(rgb)
            parts = []
            for begin in range(0, len(phrases), step):
                chosen = slice(begin, begin + step)
                (meaning,) = self._phrases(phrases[chosen])
                activations = [layer[rows[chosen].to(self._device)] for layer in seen]
                logits = self._model.decoder(activations, meaning).logits
                square = logits.float().sigmoid()[:, None]
                restored = F.interpolate(square, size, mode="bilinear", align_corners=False, antialias=True)
                parts.append(soft_mask(restored[:, 0].cpu().numpy()))
        return np.concatenate(parts)

    def _encode_image(self, rgb: NDArray[np.uint8]) -> list[Tensor]:
        """Frames (F, H, W, 3) → the activations (F, tokens, width) of the layers that CLIPSeg's decoder reads."""
        pixels = self._processor(images=list(rgb), return_tensors="pt", input_data_format="channels_last")
        seen = self._model.clip.get_image_features(pixels["pixel_values"].to(self._device), output_hidden_states=True)
        return [seen.hidden_states[layer + 1] for layer in self._model.extract_layers]  # 0 is the embedding

    def _encode_text(self, phrases: list[str]) -> tuple[Tensor]:
        """N phrases → ((N, projection),): what conditions the decoder."""
        longest = self._model.config.text_config.max_position_embeddings
        words = self._tokenizer(phrases, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        ids, mask = words["input_ids"].to(self._device), words["attention_mask"].to(self._device)
        return (self._model.clip.get_text_features(ids, attention_mask=mask).pooler_output,)
