"""Configuration of the agent: the method's settings and those of its rivals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from semore.datasets.errors import SemoreError
from semore.train.encoder_settings import EncoderSettings, check_encoder

AUXILIARIES: Final = ("transition", "reward", "semantic", "contrast", "semantic_features")
"""What a method may learn beside SAC's own losses, each with a weight."""
MASK_LOSSES: Final = ("balanced_bce", "balanced_l1", "plain_l1")
"""Semantic losses in mask space; they teach the student's mask."""
FEATURE_LOSSES: Final = ("feature_l1", "nt_xent")
"""Semantic losses in feature space; they teach no mask."""
SEMANTIC_LOSSES: Final = (*MASK_LOSSES, *FEATURE_LOSSES)


@dataclass(frozen=True)
class AgentSettings:
    """The method's knobs; docs/fidelity.md gives the paper's and the public code's values."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    """Shape of the encoder."""
    hidden: int = 256
    """Width of the actor's and critics' hidden layers."""
    model_hidden: int = 512
    """Width of the transition and reward heads."""
    lr: float = 1e-3
    """Adam's rate for encoder, critics, heads and actor."""
    alpha_lr: float = 3e-4
    """Adam's rate for log α."""
    initial_alpha: float = 0.03
    """SAC's entropy weight at the start."""
    target_entropy: float = -2.0
    """Entropy H̄ that α is tuned towards."""
    gamma: float = 0.99
    """Discount per decision."""
    n_step: int = 1
    """Decisions whose rewards the critics' target sums before it bootstraps (datasets/returns.py)."""
    tau: float = 0.01
    """Soft-update rate of the target critics."""
    encoder_tau: float = 0.05
    """Soft-update rate of the target encoder and neck."""
    actor_every: int = 2
    """Critic updates per actor update."""
    objective: str = "sac"
    """sac, or cloning: behaviour cloning alone, without critics."""
    auxiliaries: tuple[str, ...] = ("transition", "reward", "semantic")
    """What is learnt beside SAC's own losses: transition and reward (DeepMDP), semantic (the mask), contrast (CURL),
    semantic_features (the paper's L1 between the semantic stream's features and H_ka's, beside the mask's loss)."""
    semantic_weight: float = 1.0
    """λ_sem, the weight of the semantic loss; 0 leaves it out."""
    semantic_loss: str = "balanced_bce"
    """In mask space balanced_bce, balanced_l1, or plain_l1 (collapses on sparse masks); in feature space feature_l1
    (the paper's words) or nt_xent (the public code, weight 0.05): these teach no mask and need encoder.mask zeros."""
    transition_weight: float = 1.0
    """Weight of DeepMDP's transition loss; 0 leaves it out."""
    reward_weight: float = 1.0
    """Weight of DeepMDP's reward loss; 0 leaves it out."""
    transition_latent: str = "motion"
    """Latent the transition model predicts: motion (as the public code), or fused."""
    shifts: int = 0
    """Randomly shifted copies of each sample: 0 none, 1 as CURL and DrQ-v2, 2 as DrQ with K = M = 2 (targets and losses
    averaged over both). Only without knowledge, whose masks do not move along."""
    contrast_weight: float = 1.0
    """Weight of CURL's contrastive loss; 0 leaves it out."""
    semantic_features_weight: float = 1.0
    """Weight of the semantic features' loss, where it is listed; 0 leaves it out."""
    clip: float = 50.0
    """Largest gradient norm of the critic side; the actor's is a fifth of it."""

    @property
    def auxiliary_weights(self) -> dict[str, float]:
        """The weights of what is learnt beside SAC's own losses, by name."""
        weights = {name: float(getattr(self, f"{name}_weight")) for name in AUXILIARIES if name in self.auxiliaries}
        return {name: weight for name, weight in weights.items() if weight}

    @property
    def teaches_mask(self) -> bool:
        """Whether any loss shapes the student's mask."""
        return "semantic" in self.auxiliary_weights and self.semantic_loss in MASK_LOSSES


@dataclass(frozen=True)
class LossWeights:
    """What the schedule says for one update."""

    cloning: float = 0.0
    """λ of the behaviour-cloning term."""
    cloning_shapes_encoder: bool = False
    """Whether its gradient reaches the encoder (the offline phase)."""
    student_share: float = 0.5
    """Probability that the student's mask replaces a cached one (encoder.mask student; with own it is 1, else 0)."""

    @property
    def clones(self) -> bool:
        """Whether there is a behaviour-cloning term."""
        return self.cloning > 0


def check(settings: AgentSettings) -> None:
    """SemoreError naming the first setting, or pair of settings, that makes no sense."""
    encoder, weights = settings.encoder, settings.auxiliary_weights
    check_encoder(encoder)
    for name, value, choices in (
        ("objective", settings.objective, ("sac", "cloning")),
        ("semantic_loss", settings.semantic_loss, SEMANTIC_LOSSES),
        ("transition_latent", settings.transition_latent, ("motion", "fused")),
        ("shifts", settings.shifts, (0, 1, 2)),
        *(("auxiliaries", each, AUXILIARIES) for each in settings.auxiliaries),
    ):
        if value not in choices:
            raise SemoreError(f"unknown agent.{name} {value!r}; choose one of {', '.join(map(str, choices))}")
    if len(set(settings.auxiliaries)) < len(settings.auxiliaries):
        raise SemoreError(f"agent.auxiliaries {list(settings.auxiliaries)} names one twice")
    for name, low, high in (
        *((f"{auxiliary}_weight", 0.0, math.inf) for auxiliary in AUXILIARIES),
        *((rate, 0.0, 1.0) for rate in ("gamma", "tau", "encoder_tau")),
        ("actor_every", 1, math.inf),
        ("n_step", 1, math.inf),
        ("initial_alpha", 1e-12, math.inf),
    ):
        if not low <= getattr(settings, name) <= high:
            raise SemoreError(f"agent.{name} is {getattr(settings, name)}; it must lie between {low:g} and {high:g}")
    if settings.shifts and ("semantic" in weights or encoder.streams == "dual"):
        raise SemoreError(
            "agent.shifts moves pictures but not masks: it needs agent.encoder.streams single and "
            "agent.auxiliaries without semantic"
        )
    if "contrast" in weights and not settings.shifts:
        raise SemoreError(
            "contrast among agent.auxiliaries needs agent.shifts 1: it is between two shifts of a picture"
        )
    if settings.objective == "cloning" and weights:
        raise SemoreError("agent.objective cloning has no loss but its own: set agent.auxiliaries to []")
    compared = ["semantic_features among agent.auxiliaries"] if "semantic_features" in weights else []
    if "semantic" in weights and settings.semantic_loss in FEATURE_LOSSES:
        compared.append(f"agent.semantic_loss {settings.semantic_loss}")
    if compared and not encoder.reads_mask:
        raise SemoreError(
            f"{compared[-1]} compares with the mask's features: it needs agent.encoder.streams dual, and an "
            "agent.encoder.attention or agent.encoder.mask_path concat"
        )
    if encoder.reads_mask and encoder.mask != "zeros" and not settings.teaches_mask:
        raise SemoreError(
            f"agent.encoder.mask {encoder.mask} acts with the student's mask, which nothing teaches here; choose "
            f"zeros, or semantic among agent.auxiliaries, with a weight and an agent.semantic_loss of "
            f"{', '.join(MASK_LOSSES)}"
        )
