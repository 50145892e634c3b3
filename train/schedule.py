"""The schedule of a training run: when what happens, counted in updates."""

from __future__ import annotations

from dataclasses import dataclass

from semore.train.agent_settings import LossWeights


@dataclass(frozen=True)
class ScheduleSettings:
    """When what happens, counted in updates."""

    updates: int = 4_000
    """Updates in all."""
    offline_updates: int = 800
    """Updates on the recorded rollouts alone, before the policy drives itself."""
    batch: int = 32
    """Transitions per update."""
    cloning: float = 2.5
    """λ of the behaviour-cloning term during the offline phase (0 switches it off)."""
    cloning_decay: int = 4_000
    """Updates over which that term would then fall to 0."""
    student_start: float = 0.0
    """Probability, at the first update, that the student's mask replaces a cached one; with agent.encoder.mask student
    only."""
    student_end: float = 0.5
    """The same at the last update."""
    refresh_every: int = 250
    """Updates between online refreshes (0 switches them off)."""
    refresh_episodes: int = 4
    """Episodes the current policy records per refresh; with refresh_decisions the most of them."""
    refresh_decisions: int = 0
    """Decisions to record per refresh, in as many episodes as that takes when they are as long as the newest ones in
    the pool (0: refresh_episodes, however short). Young policies leave the road at once: a fixed number of episodes
    starves them."""
    refresh_spread: float = 1.0
    """How much of its σ the policy's noise has when it refreshes (1: SAC's own; 0: the mean acts)."""
    refresh_noise_memory: float = 0.0
    """Correlation of that noise from one decision to the next, in [0, 1); its σ stays (0: white noise, SAC's own)."""
    refresh_frames: int = 0
    """Frames annotated per refresh, those first at which most changes (0: all decisions)."""
    delay: int = 0
    """Updates after which what a refresh or a validation has driven counts: until then learning goes on, when there are
    `actors`, and afterwards it waits for them (0: it counts at once)."""
    shares: int = 1
    """In how many shares the episodes of a refresh or a validation are driven, each in lockstep by itself: so many
    actors can drive at once."""
    validate_every: int = 500
    """Updates between validations on validation seeds."""
    validate_episodes: int = 8
    """Episodes per validation."""
    averaging: float = 0.995
    """What validation, checkpoints' choice and the exported policy look at: a running mean of the weights that keeps
    this share of itself at each update (0: the last weights)."""
    log_every: int = 50
    """Updates between log entries."""
    save_every: int = 250
    """Updates between checkpoints; there is also one after each refresh and validation."""
    picture_every: int = 500
    """Updates between pictures of what the network sees (0 switches them off)."""

    def weights(self, update: int) -> LossWeights:
        """The weights of update number `update` (0-based)."""
        offline = update < self.offline_updates
        left = 1.0 if offline else max(0.0, 1.0 - (update - self.offline_updates) / max(self.cloning_decay, 1))
        share = self.student_start + (self.student_end - self.student_start) * update / max(self.updates - 1, 1)
        return LossWeights(self.cloning * left, offline, share)

    def refreshes(self, update: int) -> bool:
        """Whether the policy drives anew after `update` updates; not when no update would see what it drives."""
        every = self.refresh_every
        return bool(every) and self.offline_updates <= update < self.updates - self.delay and update % every == 0

    def validates(self, update: int) -> bool:
        """Whether validation seeds are driven after `update` updates; always at the end."""
        return update == self.updates or (bool(self.validate_every) and update % self.validate_every == 0)

    def eventful(self, update: int) -> bool:
        """Whether a refresh or a validation begins after `update` updates, or counts from then on."""
        return any(self.refreshes(each) or self.validates(each) for each in {update, update - self.delay} if each > 0)
