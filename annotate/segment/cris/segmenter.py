"""CRIS as a Segmenter: each frame and each phrase is encoded once, and pairs are decoded in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semore.annotate.interfaces import FrameBatch
from semore.annotate.segment.batching import PhraseMemory, in_groups
from semore.annotate.segment.cris.checkpoint import WANTED, file_digest, load_checkpoint, state_digest
from semore.annotate.segment.cris.network import CRIS, TextFeatures
from semore.annotate.segment.cris.phrases import tokenize
from semore.annotate.segment.cris.picture import PROCESSING_VERSION, prepare, restore, soft_mask
from semore.annotate.settings import CrisSettings
from semore.datasets.device import torch_device
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.records import Identity


class CrisSegmenter:
    """CRIS-R50 as a Segmenter (method.md §7). It sees rgb only."""

    def __init__(self, settings: CrisSettings) -> None:
        """SemoreError for batch sizes below 1; the weights come with `load`."""
        if min(settings.frames, settings.phrases) < 1:
            raise SemoreError(f"cris.frames is {settings.frames}, cris.phrases {settings.phrases}; both must be ≥ 1")
        self.settings = settings
        self._network: CRIS | None = None
        self._given: CRIS | None = None

    def __reduce__(self) -> tuple[Callable[..., CrisSegmenter], tuple[Any, ...]]:
        """A copy for another process is made there from the settings, as seams.Producers says; only a network that
        came from no file has to travel."""
        if self._given is not None:
            return type(self).of, (self._given, self.settings)
        return type(self), (self.settings,)

    @classmethod
    def of(cls, network: CRIS, settings: CrisSettings) -> CrisSegmenter:
        """A segmenter over a network that came from no file. The network is known by its weights; it is put into
        evaluation mode and onto the settings' device."""
        segmenter = cls(replace(settings, word_len=network.word_len))
        segmenter._weights = state_digest(network)
        segmenter._use(network)
        segmenter._given = network
        return segmenter

    @property
    def _checkpoint(self) -> Path:
        if not self.settings.checkpoint:
            raise SemoreError(f"cris.checkpoint is not set; {WANTED}")
        return Path(self.settings.checkpoint).expanduser()

    @cached_property
    def _weights(self) -> str:
        return file_digest(self._checkpoint)

    @property
    def identity(self) -> Identity:
        """Digest of the checkpoint file, tokens per phrase, version of the processing, precision. SemoreError when
        there is no checkpoint."""
        return {
            "role": "segmenter",
            "kind": "cris",
            "weights": self._weights,
            "word_len": self.settings.word_len,
            "processing": PROCESSING_VERSION,
            "precision": self.settings.precision,
            "privileged": False,
        }

    def load(self) -> None:
        """Read the checkpoint onto the settings' device; SemoreError when it is missing or broken."""
        if self._network is None:
            self._use(load_checkpoint(self._checkpoint, self.settings.word_len))

    def _use(self, network: CRIS) -> None:
        self._device = torch_device(self.settings.device)
        self._network = network.eval().to(self._device)
        self._phrases = PhraseMemory(
            lambda phrases: network.encode_text(tokenize(phrases, network.word_len).to(self._device))
        )

    @torch.inference_mode()
    def segment(self, batch: FrameBatch, phrases: Sequence[Sequence[str]]) -> NDArray[np.uint8]:
        """(M, H, W) uint8, frame by frame, each frame's phrases in order."""
        self.load()
        return in_groups(batch.rgb, phrases, self.settings.frames, self._segment)

    def _segment(self, rgb: NDArray[np.uint8], phrases: Sequence[str], rows: Tensor) -> NDArray[np.uint8]:
        """Frames (F, H, W, 3) encoded together; phrase i is asked about frame rows[i]."""
        network, step = self._network, self.settings.phrases
        assert network is not None
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            images = network.encode_image(prepare(rgb, self._device))
            parts = []
            for begin in range(0, len(phrases), step):
                chosen = slice(begin, begin + step)
                image, text = images.take(rows[chosen].to(self._device)), TextFeatures(*self._phrases(phrases[chosen]))
                parts.append(soft_mask(restore(network.decode(image, text), *rgb.shape[1:3])))
        return np.concatenate(parts)
