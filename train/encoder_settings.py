"""The encoder's configuration and the geometry of its convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.schema import RECORDING_SIZE

HALF: Final = -1
"""A mask_side of at least half the picture's, whatever that is."""


@dataclass(frozen=True)
class EncoderSettings:
    """Shape of the encoder."""

    size: int = 64
    """Side of the frames the network sees, in pixels."""
    channels: tuple[int, ...] = (8, 16, 32, 32)
    """Filters of the four convolutions of each stream."""
    latent: int = 50
    """Width of the semantic and of the motion latent; the fused latent is twice as wide, with mask_path concat three
    times."""
    streams: str = "dual"
    """dual (Semore), or single: the three frames stacked into one stream, without knowledge (the rivals)."""
    attention: str = "cross"
    """cross (bidirectional between motion and H_ka), joint (the public code's joint softmax over both streams), or
    none."""
    mask: str = "student"
    """What stands in for H_ka where none is cached, hence when acting: student (its own mask, which training also mixes
    in where one is cached, with rising probability), own (its own mask everywhere, in training as when acting: H_ka
    teaches it and nothing reads H_ka), cached (as student, without mixing), or zeros (the public code, without mixing
    either)."""
    mask_side: int = 0
    """Cells along a side of the masks that the network reads and the student predicts: the feature grid's (0), or those
    times 2, 4, 8 …, up to the picture's side: 16, 32 or 64 for pictures of 64 pixels. HALF (-1): the fewest of these
    that are at least half the picture's side."""
    mask_path: str = "gated"
    """How the mask reaches the latents: gated (through the attention's residuals alone, whose gates start at 0), or
    concat (a strided stack of convolutions reads it, whose latent stands in z beside those of the streams, whatever the
    attention). Not looked at with streams single."""
    silent: str = "none"
    """none, or for counterfactuals semantic or motion: the stream whose map is zeros for what reads it. The student's
    mask is still made from the semantic stream."""
    heads: int = 4
    """Attention heads."""
    fusion: str = "bilinear"
    """bilinear, or concat."""
    precision: str = "fp32"
    """fp32, or bf16 (autocast in the convolutions and the attention only)."""

    @property
    def concatenates_mask(self) -> bool:
        """Whether the mask has a latent of its own in z."""
        return self.streams == "dual" and self.mask_path == "concat"

    @property
    def reads_mask(self) -> bool:
        """Whether a mask reaches z, in whatever way."""
        return self.streams == "dual" and (self.attention != "none" or self.mask_path == "concat")

    @property
    def fused(self) -> int:
        """Width of z."""
        return (3 if self.concatenates_mask else 2) * self.latent

    @property
    def mask_resolution(self) -> int:
        """Cells along a side of the masks, in figures."""
        if self.mask_side == HALF:
            return next(side for side in mask_sides(self.size) if 2 * side >= self.size)
        return self.mask_side or geometry(self.size).grid


class Geometry(NamedTuple):
    """Kernels, strides and padding of a four-layer stack, and the side of the map it ends in."""

    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    padding: int
    grid: int


STACKS: Final = (
    ((5, 3, 3, 3), (2, 2, 2, 2), 0),
    ((3, 3, 3, 3), (2, 2, 2, 1), 0),
    ((3, 3, 3, 3), (2, 2, 2, 1), 1),
    ((3, 3, 3, 3), (2, 2, 1, 1), 1),
)
"""Kernels, strides and padding: the first is DMR's (128²), the others are milder, for smaller pictures."""


def geometry(size: int) -> Geometry:
    """The first stack that makes a map of 6×6 to 9×9 (design.md §7.1) of pictures of `size` pixels. SemoreError naming
    the sizes that work when none does."""
    found = _fitting(size)
    if found is None:
        sizes = ", ".join(f"{first} to {last}" for first, last in _sizes())
        raise SemoreError(
            f"no stack of four convolutions gives a 6×6 to 9×9 map for agent.encoder.size {size}; choose one of "
            f"{sizes} (frames are recorded at {RECORDING_SIZE})"
        )
    return found


def map_sides(size: int, kernels: tuple[int, ...], strides: tuple[int, ...], padding: int) -> list[int]:
    """Sides of the maps after each convolution, for pictures of `size` pixels."""
    sides = []
    for kernel, stride in zip(kernels, strides, strict=True):
        size = (size + 2 * padding - kernel) // stride + 1
        sides.append(size)
    return sides


def mask_sides(size: int) -> list[int]:
    """Cells along a side that masks may have for pictures of `size` pixels."""
    grid = geometry(size).grid
    return [grid << doublings for doublings in range(size.bit_length()) if grid << doublings <= size]


def _fitting(size: int) -> Geometry | None:
    for kernels, strides, padding in STACKS:
        side = map_sides(size, kernels, strides, padding)[-1]
        if 6 <= side <= 9:
            return Geometry(kernels, strides, padding, side)
    return None


def _sizes() -> list[tuple[int, int]]:
    """First and last of each range of sizes that work, up to the recorded one."""
    works = [size for size in range(1, RECORDING_SIZE + 1) if _fitting(size)]
    firsts = [size for size in works if size - 1 not in works]
    return list(zip(firsts, [size for size in works if size + 1 not in works], strict=True))


def check_encoder(settings: EncoderSettings) -> None:
    """SemoreError naming the first setting that makes no sense."""
    for name, value, choices in (
        ("streams", settings.streams, ("dual", "single")),
        ("attention", settings.attention, ("cross", "joint", "none")),
        ("mask", settings.mask, ("student", "own", "cached", "zeros")),
        ("mask_path", settings.mask_path, ("gated", "concat")),
        ("silent", settings.silent, ("none", "semantic", "motion")),
        ("fusion", settings.fusion, ("bilinear", "concat")),
        ("precision", settings.precision, ("fp32", "bf16")),
    ):
        if value not in choices:
            raise SemoreError(f"unknown agent.encoder.{name} {value!r}; choose one of {', '.join(choices)}")
    sides = mask_sides(settings.size)
    if settings.mask_side not in (0, HALF, *sides):
        raise SemoreError(
            f"agent.encoder.mask_side {settings.mask_side} does not fit agent.encoder.size {settings.size}; choose 0, "
            f"{HALF} or one of {', '.join(map(str, sides))}: the feature grid, doubled as often as the picture allows"
        )
    layers = len(geometry(settings.size).kernels)
    if len(settings.channels) != layers:
        raise SemoreError(
            f"agent.encoder.channels {list(settings.channels)} must name {layers} widths, one per convolution"
        )
    if settings.silent != "none" and settings.streams != "dual":
        raise SemoreError(f"agent.encoder.silent {settings.silent} needs agent.encoder.streams dual")
    heads, width = settings.heads, settings.channels[-1]
    asks = settings.streams == "dual" and settings.attention == "cross"
    if asks and (heads < 1 or width % heads):
        raise SemoreError(f"agent.encoder.heads {heads} does not divide the {width} channels; choose a divisor")
