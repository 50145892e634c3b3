"""The recordings and knowledge that the study reads, made by their own commands when they are missing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from semore.annotate.settings import AnnotateSettings
from semore.collect.plan import CollectSettings, plan
from semore.collect.recorder import episode_name
from semore.datasets.atomic_io import exclusive_lock, read_json, write_json
from semore.datasets.errors import SemoreError
from semore.datasets.names import rollouts_path
from semore.datasets.rollouts.store import Rollouts
from semore.datasets.settings import load_settings
from semore.datasets.subprocesses import die_with_parent
from semore.train.settings import TrainSettings
from study.plan import EXACT

PATIENCE: Final = 5.0
"""Seconds between two looks at whether another study has made the data."""


def prepare(runs: Sequence[TrainSettings], folder: Path) -> None:
    """Record and annotate what these runs read and is not there yet; `folder` remembers what was annotated. SemoreError
    when a command fails. Rollouts that a run names itself are the user's own affair."""
    wanted = dict.fromkeys((run.preset, run.scenario, run.data, run.knowledge) for run in runs if not run.rollouts)
    with _turn(folder / ".lock"):
        for preset, scenario, data, knowledge in wanted:
            common = ["--preset", preset, "--scenario", scenario, "--data", data]
            collected = load_settings(CollectSettings, "collect", common)
            rollouts = Rollouts(rollouts_path(data, "", scenario, preset))
            names = {episode_name(scenario, seed) for seed, _ in plan(collected)}
            if not (rollouts.path.exists() and names <= set(rollouts.names())):
                _command("collect", *common)
            stamp = folder / f"{scenario}-{Path(preset).stem}-{knowledge}.json"
            now = {"rollouts": rollouts.fingerprint(), "data": str(Path(data).resolve())}
            if not (stamp.exists() and read_json(stamp) == now):
                _command("annotate", *common, *_producers(preset, knowledge))
                write_json(stamp, now)


def _producers(preset: str, knowledge: str) -> list[str]:
    """How `annotate` is to make the knowledge set: the exact masks, or as the preset says."""
    if knowledge == EXACT:
        return ["--describer", "privileged", "--segmenter", "privileged", "--knowledge", knowledge]
    settings = load_settings(AnnotateSettings, "annotate", ["--preset", preset])
    own = settings.knowledge_set
    if knowledge != own:
        raise SemoreError(
            f"the runs read knowledge {knowledge!r}, the preset's annotate section makes {own!r}; give the preset's "
            f"train section knowledge: {own}, or its annotate section knowledge: {knowledge}"
        )
    return ["--knowledge", knowledge]


def _command(stage: str, *arguments: str) -> None:
    print(f"study: python -m {stage} {' '.join(arguments)}", flush=True)
    done = subprocess.run([sys.executable, "-m", stage, *arguments], preexec_fn=die_with_parent, check=False)
    if done.returncode:
        raise SemoreError(f"`python -m {stage} {' '.join(arguments)}` failed; its message is above")


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Hold the lock, waiting for another study that makes data."""
    said = False
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(exclusive_lock(path, "making of data"))
                break
            except SemoreError as error:
                if not said:
                    print(f"study: waiting: {error}", flush=True)
                said = True
                time.sleep(PATIENCE)
        yield
