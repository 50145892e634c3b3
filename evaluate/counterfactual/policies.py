"""A trained policy with one part changed while it acts: its mask, a stream, or the attention.

The weights are those of its policy file; what it is to do without is replaced by another module of the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from semore.annotate.audit.truth import truth_of
from semore.annotate.interfaces import FrameBatch
from semore.collect.policies import Action, Info, Policy, load_policy, load_view
from semore.datasets.knowledge.merge import max_pool
from semore.datasets.mask_variants import replaced
from semore.datasets.resize import GREY
from semore.evaluate.counterfactual.variants import PLAIN, TRUTH, VARIANTS, Variant, refuse
from semore.evaluate.episodes import RunCourse
from semore.train.agent import make_agent
from semore.train.attention import NoAttention
from semore.train.encoder import DualStream, Silence
from semore.train.learner import Learner
from semore.train.run_io import run_settings


@dataclass(frozen=True)
class CounterfactualCourse(RunCourse):
    """A RunCourse whose policies are PLAIN and VARIANTS."""

    def policy(self, name: str) -> Policy:
        return load_policy(self.run) if name == PLAIN else CounterfactualPolicy(self.run, VARIANTS[name])


def with_weights(agent: Learner, run: Path) -> Learner:
    """The agent with all that the run's policy file has of it: what acts, so neither critics nor heads of losses."""
    weights = torch.export.load(run / "policy.pt2").state_dict
    own = agent.state_dict().keys() & weights.keys()
    agent.load_state_dict({name: weights[name] for name in own}, strict=False)
    return agent


class ReplacedMask(nn.Module):
    """In the place of the encoder's own source of masks: the student's mask under a variant, or the simulator's."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind
        self._generators: list[np.random.Generator] = []
        self.slots: Sequence[int] = ()
        self.infos: Sequence[Info] = ()
        """Of the environments whose observations come next."""

    def start(self, seeds: Sequence[int]) -> None:
        """New episodes begin, one in each slot."""
        self._generators = [np.random.default_rng([seed, 0xC0F]) for seed in seeds]

    def forward(self, student_Bgg: Tensor) -> Tensor:
        """Logits to a mask in [0, 1]."""
        mask = student_Bgg.float().sigmoid().numpy()
        if self._kind == TRUTH:
            return torch.from_numpy(np.stack([true_mask(info, mask.shape[1]) for info in self.infos]))
        return torch.from_numpy(replaced(mask, self._kind, (self._generators[slot] for slot in self.slots), full=1))


class CounterfactualPolicy:
    """The policy of a run under a variant; deterministic, on the CPU. SemoreError when the run has no policy, or when
    its network has nothing that the variant could change."""

    def __init__(self, run: Path, variant: Variant) -> None:
        self._blind = bool(load_view(run).get("grey"))
        settings = run_settings(run).agent
        refuse(settings.encoder, variant)
        self._agent = with_weights(make_agent(settings).eval(), run)
        self._mask = ReplacedMask(variant.mask)
        backbone = self._agent.backbone
        assert isinstance(backbone, DualStream)
        if variant.mask != "plain":
            backbone.mask_source = self._mask
        if variant.silent == "semantic":
            backbone.semantic_shown = Silence()
        if variant.silent == "motion":
            backbone.motion_shown = Silence()
        if not variant.attention:
            backbone.attention = NoAttention()
        if not variant.known:
            backbone.mask_encoder.append(Silence())

    def start(self, seeds: Sequence[int]) -> None:
        self._mask.start(seeds)

    def act(self, slots: Sequence[int], observations: NDArray[np.uint8], infos: Sequence[Info]) -> Action:
        observation = torch.from_numpy(np.full_like(observations, GREY) if self._blind else observations)
        self._mask.slots, self._mask.infos = slots, infos
        with torch.inference_mode():
            action: Action = torch.tanh(self._agent(observation)[0]).numpy()
            return action


def true_mask(info: Info, grid: int) -> NDArray[np.float32]:
    """(grid, grid) float32, 0 or 1: the true H_ka of what a DrivingEnv's info shows, max-pooled."""
    unread = np.zeros((1, 0), np.uint8)
    scene = (info[name][None] for name in ("semantic", "instance", "actors", "ego"))
    batch = FrameBatch(unread, unread, unread, *scene)
    pooled: NDArray[np.float32] = max_pool(truth_of(batch).mask.astype(np.uint8), grid)[0].astype(np.float32)
    return pooled


def attention_gates(run: Path) -> str:
    """A sentence on how far the attention is open; empty when it has no gates."""
    weights = torch.export.load(run / "policy.pt2").state_dict
    gates = weights.get("backbone.attention.gates")
    if gates is None:
        return ""
    motion, known = gates.tolist()
    apart = any(name.startswith("actor_neck.known.") for name in weights)
    shut = "the mask reaches the policy beside it" if apart else "no mask reaches the policy"
    return (
        f"attention gates: {motion:+.3f} for what motion asks of H_ka, {known:+.3f} for what H_ka asks of motion (0: "
        f"shut; {shut})"
    )
