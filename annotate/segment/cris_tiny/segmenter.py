"""CRIS-tiny as a Segmenter: frames of any size and phrases in, soft masks out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from semore.annotate.interfaces import FrameBatch
from semore.annotate.segment.batching import PhraseMemory, in_groups
from semore.annotate.segment.cris_tiny.network import SIZE, TOP, CrisTiny, Kernels, Pixels, answer, fold
from semore.annotate.segment.cris_tiny.phrase_vocab import tokens
from semore.annotate.segment.cris_tiny.weights import WEIGHTS, about_weights, read_weights
from semore.annotate.settings import CrisTinySettings
from semore.datasets.atomic_io import digest16
from semore.datasets.device import torch_device
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.records import Identity

PROCESSING_VERSION: Final = 2
"""Part of the identity: raise it with every change in this package that changes a mask."""

OUTLINE_BIAS: Final = 1.0
MEANING_BIAS: Final = 2.5
"""Added to the two logits: their product is timid. Chosen on validation seeds for the mean IoU at one half, as long as
nine in ten absent objects stay clean."""


class CrisTinySegmenter:
    """The small segmenter of the embedded world. It sees rgb only, and knows only the renderer it was trained on."""

    def __init__(self, settings: CrisTinySettings) -> None:
        """SemoreError for a batch below 1; the weights come with `load`."""
        if settings.batch < 1:
            raise SemoreError(f"cris_tiny.batch is {settings.batch}; it must be at least 1")
        self.settings = settings
        self._network: CrisTiny | None = None

    def __reduce__(self) -> tuple[type[CrisTinySegmenter], tuple[CrisTinySettings]]:
        """A copy for another process is made there from the settings, as seams.Producers says."""
        return type(self), (self.settings,)

    @property
    def _file(self) -> Path:
        return Path(self.settings.weights).expanduser() if self.settings.weights else WEIGHTS

    @cached_property
    def identity(self) -> Identity:
        """Digest of the weights file, the renderer and simulator it was trained on, version of the processing.
        SemoreError when the file is missing or torn."""
        about = about_weights(self._file)
        return {
            "role": "segmenter",
            "kind": "cris-tiny",
            "weights": digest16(self._file.read_bytes()).hex(),
            "renderer": str(about["renderer"]),
            "processing": PROCESSING_VERSION,
            "privileged": False,
        }

    def load(self) -> None:
        """Read the weights; SemoreError when the file is missing, torn or of another version."""
        if self._network is not None:
            return
        network: Any = read_weights(self._file).requires_grad_(False)
        fold(network)
        self._device = torch_device(self.settings.device)
        self._network = network.to(self._device, memory_format=torch.channels_last)
        self._phrases = PhraseMemory(self._encode)

    def segment(self, batch: FrameBatch, phrases: Sequence[Sequence[str]]) -> NDArray[np.uint8]:
        """(M, H, W) uint8, frame by frame, each frame's phrases in order."""
        return self.find(batch.rgb, phrases)

    @torch.inference_mode()
    def find(self, rgb: NDArray[np.uint8], phrases: Sequence[Sequence[str]]) -> NDArray[np.uint8]:
        """(M, H, W) uint8 of frames (B, H, W, 3) and their phrases. Frames of another size than 128 are resized there
        and their masks back."""
        self.load()
        return in_groups(rgb, phrases, self.settings.batch, self._find)

    def _find(self, rgb: NDArray[np.uint8], phrases: Sequence[str], rows: Tensor) -> NDArray[np.uint8]:
        """Frames (F, H, W, 3) encoded together; phrase i is asked about frame rows[i]."""
        assert self._network is not None
        pixels, _ = self._network.pixels(self._pictures(rgb)[:, :, TOP:])
        pixels = pixels._replace(outline=pixels.outline + OUTLINE_BIAS)
        kernels = Kernels(*self._phrases(phrases))
        kernels = kernels._replace(bias=kernels.bias + MEANING_BIAS)
        masks = np.empty((len(phrases), *rgb.shape[1:3]), np.uint8)
        for frame, own in enumerate(torch.searchsorted(rows, torch.arange(len(rgb) + 1)).unfold(0, 2, 1).tolist()):
            span = slice(*own)
            one, asked = (part[frame : frame + 1] for part in pixels), (part[None, span] for part in kernels)
            soft = functional.pad(answer(Pixels(*one), Kernels(*asked)), (0, 0, TOP, 0))
            if soft.shape[2:] != rgb.shape[1:3]:
                soft = functional.interpolate(soft, rgb.shape[1:3], mode="bilinear", antialias=True)
            masks[span] = soft[0].mul(255.0).round().to(torch.uint8).cpu().numpy()
        return masks

    def _pictures(self, rgb: NDArray[np.uint8]) -> Tensor:
        """(F, 3, 128, 128) float32 in [0, 1]; a view of channels-last pixels."""
        pictures = torch.from_numpy(rgb).to(self._device).permute(0, 3, 1, 2).float() / 255.0
        if pictures.shape[2:] != (SIZE, SIZE):
            pictures = functional.interpolate(pictures, (SIZE, SIZE), mode="bilinear", antialias=True)
        return pictures

    def _encode(self, phrases: list[str]) -> Kernels:
        """N phrases → Kernels of (N, …); one at a time, so that an answer does not depend on the other phrases."""
        assert self._network is not None
        said = [self._network.phrases(torch.from_numpy(tokens([phrase])).to(self._device)) for phrase in phrases]
        return Kernels(*map(torch.cat, zip(*said, strict=True)))
