"""The CRIS-R50 network (method.md §7): picture and phrase in, mask logits out.

It is re-implemented from published facts."""

from __future__ import annotations

from typing import Final, NamedTuple

from torch import Tensor, nn

from semore.annotate.segment.cris.clip import CLIP, POSITIONS
from semore.annotate.segment.cris.decoder import Decoder
from semore.annotate.segment.cris.neck import ImageFeatures, Neck
from semore.annotate.segment.cris.projector import Projector
from semore.datasets.errors import SemoreError

STRIDE: Final = 32
"""Height and width of the input must be multiples of this."""


class TextFeatures(NamedTuple):
    """What phrases mean: words (N, L, 512), sentence (N, 1024), padding (N, L) bool, True where no word stands."""

    words: Tensor
    sentence: Tensor
    padding: Tensor


class CRIS(nn.Module):
    """The whole network, with the official state_dict's 662 keys and shapes.

    `forward` is the published call. `encode_image`, `encode_text` and `decode` are its three parts, so that a picture
    is encoded once however much is asked about it, and a phrase once however often it comes.
    """

    def __init__(self, word_len: int = 17) -> None:
        """word_len: tokens per phrase, 17 for RefCOCO, 22 for RefCOCOg. SemoreError outside 3–77."""
        super().__init__()
        if not 3 <= word_len <= POSITIONS:
            raise SemoreError(f"word_len is {word_len}; it must be 3 (start, a word, end) to {POSITIONS}")
        self.word_len = word_len
        self.backbone = CLIP()
        self.neck = Neck()
        self.decoder = Decoder()
        self.proj = Projector()

    def encode_image(self, image: Tensor) -> ImageFeatures:
        """Normalised pictures (B, 3, H, W) float32; ValueError unless H and W are multiples of 32."""
        if image.shape[-2] % STRIDE or image.shape[-1] % STRIDE:
            raise ValueError(f"pictures are {tuple(image.shape[-2:])}; CRIS needs multiples of {STRIDE}")
        return self.neck.project(*self.backbone.visual(image))

    def encode_text(self, word: Tensor) -> TextFeatures:
        """Token ids (B, word_len) int64. Id 0 pads; it is also CLIP's "!" inside a word, which is thus not seen."""
        if word.shape[1] != self.word_len:
            raise ValueError(f"{word.shape[1]} tokens per phrase; this network takes {self.word_len}")
        words, sentence = self.backbone.encode_text(word)
        return TextFeatures(words, sentence, word == 0)

    def decode(self, image: ImageFeatures, text: TextFeatures) -> Tensor:
        """B pictures' features (ImageFeatures.take repeats them) and B phrases' → logits (B, 1, H/4, W/4)."""
        fused = self.neck(image, text.sentence)
        places = self.decoder(fused, text.words, text.padding)
        return self.proj(places, text.sentence)  # type: ignore[no-any-return]

    def forward(self, image: Tensor, word: Tensor) -> Tensor:
        """image (B, 3, H, W) float32 normalised, word (B, word_len) int64 → logits (B, 1, H/4, W/4)."""
        return self.decode(self.encode_image(image), self.encode_text(word))
