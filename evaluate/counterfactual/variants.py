"""What a counterfactual changes about a policy, by name, and which policies have what is to be changed."""

from __future__ import annotations

from typing import Final, NamedTuple

from semore.datasets.errors import SemoreError
from semore.train.encoder_settings import EncoderSettings

TRUTH: Final = "truth"
"""The mask that is the simulator's own H_ka, as privileged annotation would give it."""


class Variant(NamedTuple):
    """What is changed: the mask (one of datasets.mask_variants.MASKS, or TRUTH), a silent stream, the attention, and
    whether the mask's features say anything."""

    mask: str = "plain"
    silent: str = "none"
    attention: bool = True
    known: bool = True


PLAIN: Final = "trained"
"""The policy as it is."""
VARIANTS: Final[dict[str, Variant]] = {
    "empty_mask": Variant("empty"),
    "inverted_mask": Variant("inverted"),
    "shuffled_mask": Variant("shuffled"),
    "true_mask": Variant(TRUTH),
    "no_attention": Variant(attention=False),
    "no_mask_path": Variant(attention=False, known=False),
    "no_semantic_stream": Variant(silent="semantic"),
    "no_motion_stream": Variant(silent="motion"),
}
"""Every row beside PLAIN (docs/counterfactual.md)."""


def refuse(encoder: EncoderSettings, variant: Variant) -> None:
    """SemoreError when the encoder has nothing that the variant could change."""
    if encoder.streams != "dual":
        raise SemoreError(
            "this run's network has one stream and reads no knowledge (agent.encoder.streams single); counterfactuals "
            "need a run of method semore"
        )
    changes_mask = variant.mask != "plain" or not variant.known
    if not encoder.reads_mask and (changes_mask or not variant.attention):
        raise SemoreError(
            "this run was trained without attention, so no mask reaches its policy (agent.encoder.attention none); "
            "choose --variants no_semantic_stream no_motion_stream"
        )
    if encoder.attention == "none" and not variant.attention and variant.known:
        raise SemoreError(
            "this run was trained without attention (agent.encoder.attention none); its mask has a path of its own: "
            "choose --variants no_mask_path"
        )
    if not variant.known and not encoder.concatenates_mask:
        raise SemoreError(
            "the mask of this run reaches its policy by the attention alone (agent.encoder.mask_path gated); choose "
            "--variants no_attention"
        )


def fitting(encoder: EncoderSettings) -> tuple[str, ...]:
    """All variants, without those of a path that the encoder's mask does not take."""
    if not encoder.concatenates_mask:
        return tuple(name for name in VARIANTS if name != "no_mask_path")
    return tuple(name for name in VARIANTS if encoder.attention != "none" or name != "no_attention")
