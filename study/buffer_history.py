"""The replay buffer of a finished run: how it filled, and each log entry of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.errors import SemoreError
from semore.datasets.frame_pool import UNJUDGED
from semore.evaluate.run_commands import train_command
from semore.evaluate.runs import metrics_of
from semore.train.admission import admitted, decay
from semore.train.checkpoint import read_checkpoint
from semore.train.replay import NO_DECISION
from semore.train.run_io import run_settings
from semore.train.settings import TrainSettings

WINDOW: Final = 500
"""Decisions in a row over which an admit rate is taken while the buffer fills."""
VALIDATION: Final = "validation/reward"


@dataclass(frozen=True)
class Filling:
    """WINDOW decisions in the order they were offered: the number of the first, how many there are, updates done when
    it was offered, δ in their middle, the shares that are admitted, that the judge found reasonable, and that are in
    the buffer whatever the judge says: random first ones and episodes' ends."""

    first: int
    decisions: int
    update: int
    delta: float
    admit_rate: float
    reasonable_rate: float
    exempt_rate: float


@dataclass(frozen=True)
class History:
    """A run's buffer: how it filled, and each log entry (update, and the `replay/` metrics without that word; and
    validation_reward where there is one)."""

    run: str
    settings: TrainSettings
    filling: Sequence[Filling]
    entries: Sequence[dict[str, float]]
    starved: bool
    """Whether training complained of it."""

    @property
    def label(self) -> str:
        """The run's name without its seed: what it is one of several of."""
        return re.sub(r"-seed\d+$", "", self.run)

    @property
    def filtered(self) -> bool:
        """Whether anything is kept out."""
        return self.settings.replay.admission != "off"


def read_history(run: Path) -> History:
    """SemoreError when the run is not finished."""
    if not ((run / "summary.json").exists() and (run / "last.ckpt").exists()):
        raise SemoreError(f"{run} is not finished; `{train_command(run)}` goes on with it")
    settings, logged = run_settings(run), metrics_of(run)
    names = sorted(name for name in logged if name.startswith("replay/"))
    entries = [
        {"update": update, VALIDATION: logged.get(VALIDATION, {}).get(update, np.nan)}
        | {name.removeprefix("replay/"): logged[name].get(update, 0.0) for name in names}
        for update in sorted(logged["replay/delta"])
    ]
    replay = read_checkpoint(run / "last.ckpt", {})["replay"]
    log = run / "train.log"
    starved = log.exists() and "starved buffer" in log.read_text(encoding="utf-8", errors="replace")
    return History(run.name, settings, filling(replay, settings), entries, starved)


def filling(replay: dict[str, Any], settings: TrainSettings) -> list[Filling]:
    """From a checkpoint's replay state: what was offered, in order, judged as the filter judges it. The end of an
    episode is taken for terminal, which is always admitted; the state does not say which are only timed out."""
    step, draw_, verdict, initial = (replay[name].numpy() for name in ("step", "draw", "verdict", "initial"))
    decided = step != NO_DECISION
    last = np.append(~decided[1:], False)
    update = np.repeat(replay["recorded_at"], [count for _, count in replay["episodes"]])
    step, draw_, verdict, initial, last, update = (
        each[decided] for each in (step, draw_, verdict, initial, last, update)
    )
    delta = decay(step, settings.replay.filter_steps)
    accepted = admitted(verdict, last, initial, delta, draw_, settings.replay.admission)
    parts = [slice(first, first + WINDOW) for first in range(0, len(step), WINDOW)]
    return [
        Filling(
            int(step[part][0]), len(step[part]), int(update[part][0]), float(delta[part].mean()),
            float(accepted[part].mean()), _reasonable(verdict[part]), float((initial | last)[part].mean()),
        )
        for part in parts
    ]  # fmt: skip


def _reasonable(verdict: NDArray[np.uint8]) -> float:
    judged = verdict[verdict != UNJUDGED]
    return float((judged == 1).mean()) if len(judged) else float("nan")
