"""A trained policy with one part changed while it acts: its mask, a stream, or the attention.

The weights are those of its policy file; a silent stream and a missing attention are the encoder's own settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from semore.annotate.audit.truth import truth_of
from semore.annotate.interfaces import FrameBatch
from semore.collect.policies import Action, Info, Policy, load_policy, load_view
from semore.datasets.knowledge.merge import max_pool
from semore.datasets.mask_variants import replaced
from semore.datasets.resize import GREY
from semore.evaluate.counterfactual.variants import PLAIN, TRUTH, VARIANTS, Variant, refuse
from semore.evaluate.episodes import RunCourse
from semore.train.agent import Agent
from semore.train.encoder import DualStream
from semore.train.run_io import run_settings


@dataclass(frozen=True)
class CounterfactualCourse(RunCourse):
    """A RunCourse whose policies are PLAIN and VARIANTS."""

    def policy(self, name: str) -> Policy:
        return load_policy(self.run) if name == PLAIN else CounterfactualPolicy(self.run, VARIANTS[name])


def with_weights(agent: Agent, run: Path) -> Agent:
    """The agent with all that the run's policy file has of it: what acts, so neither critics nor heads of losses."""
    weights = torch.export.load(run / "policy.pt2").state_dict
    own = agent.state_dict().keys() & weights.keys()
    agent.load_state_dict({name: weights[name] for name in own}, strict=False)
    return agent


class CounterfactualPolicy:
    """The policy of a run under a variant; deterministic, on the CPU. SemoreError when the run has no policy, or when
    its network has nothing that the variant could change."""

    def __init__(self, run: Path, variant: Variant) -> None:
        self._blind = bool(load_view(run).get("grey"))
        settings = run_settings(run).agent
        refuse(settings.encoder, variant)
        settings = replace(settings, encoder=replace(settings.encoder, silent=variant.silent))
        if not variant.attention:  # a loss that asks for it plays no role in acting
            settings = replace(settings, encoder=replace(settings.encoder, attention="none"), semantic_weight=0.0)
        self._agent = with_weights(Agent(settings).eval(), run)
        self._mask = variant.mask
        self._generators: list[np.random.Generator] = []

    def start(self, seeds: Sequence[int]) -> None:
        self._generators = [np.random.default_rng([seed, 0xC0F]) for seed in seeds]

    def act(self, slots: Sequence[int], observations: NDArray[np.uint8], infos: Sequence[Info]) -> Action:
        observation = torch.from_numpy(np.full_like(observations, GREY) if self._blind else observations)
        with torch.inference_mode():
            if self._mask == "plain":
                return torch.tanh(self._agent(observation)[0]).numpy()
            backbone = self._agent.backbone
            assert isinstance(backbone, DualStream)
            inputs = backbone.inputs(observation.float().div(255.0).unflatten(1, (3, 3)), 2)
            mask = self._replaced(backbone(*inputs).student.sigmoid().numpy(), slots, infos)
            everywhere = torch.ones(len(mask), dtype=torch.bool)
            features = backbone(*inputs, torch.from_numpy(mask), everywhere)
            action: Action = torch.tanh(self._agent.policy(features)[0]).numpy()
            return action

    def _replaced(
        self, student_Bgg: NDArray[np.float32], slots: Sequence[int], infos: Sequence[Info]
    ) -> NDArray[np.float32]:
        if self._mask == TRUTH:
            return np.stack([true_mask(info, student_Bgg.shape[1]) for info in infos])
        return replaced(student_Bgg, self._mask, (self._generators[slot] for slot in slots), full=1)


def true_mask(info: Info, grid: int) -> NDArray[np.float32]:
    """(grid, grid) float32, 0 or 1: the true H_ka of what a DrivingEnv's info shows, max-pooled."""
    unread = np.zeros((1, 0), np.uint8)
    scene = (info[name][None] for name in ("semantic", "instance", "actors", "ego"))
    batch = FrameBatch(unread, unread, unread, *scene)
    pooled: NDArray[np.float32] = max_pool(truth_of(batch).mask.astype(np.uint8), grid)[0].astype(np.float32)
    return pooled


def attention_gates(run: Path) -> str:
    """A sentence on how far the attention is open; empty when it has no gates."""
    gates = torch.export.load(run / "policy.pt2").state_dict.get("backbone.attention.gates")
    if gates is None:
        return ""
    motion, known = gates.tolist()
    return (
        f"attention gates: {motion:+.3f} for what motion asks of H_ka, {known:+.3f} for what H_ka asks of motion (0: "
        "shut; no mask reaches the policy)"
    )
