"""Does the knowledge matter, and where? The same policy drives with another mask, or without a part.

The same trained policy acts with another mask, without a stream or without the attention; with `--train true`, the same
training run is repeated in this way. All variants drive the same episodes.

docs/counterfactual.md says what each variant means."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from semore.annotate.annotate_hint import annotate_command
from semore.collect.policies import load_view
from semore.collect.simulators import worker_count
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.hints import choices, command
from semore.datasets.knowledge.cache import read_manifest, set_names
from semore.datasets.names import run_path
from semore.datasets.run_command import run_command
from semore.datasets.settings import changed
from semore.evaluate.counterfactual.variants import PLAIN, VARIANTS, fitting, refuse
from semore.evaluate.episodes import evaluate_policies
from semore.evaluate.run_commands import evaluate_command, require_policy
from semore.evaluate.sweep.__main__ import FIRST_SEED, ManyRuns, run_points
from semore.evaluate.sweep.points import Point, settings_of
from semore.evaluate.table import differences, failures, results
from semore.train.run_io import run_settings
from semore.train.settings import TrainSettings
from semore.train.stopping import only_task_trains

TRAINED: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "plain": (),
    "privileged_mask": (("knowledge", "privileged"),),
    "shuffled_mask": (("masks", "shuffled"),),
    "empty_mask": (("masks", "empty"),),
    "inverted_mask": (("masks", "inverted"),),
    "no_attention": (("agent.encoder.attention", "none"),),
    "no_mask_path": (("agent.encoder.attention", "none"), ("agent.encoder.mask_path", "gated")),
    "no_semantic_stream": (("agent.encoder.silent", "semantic"),),
    "no_motion_stream": (("agent.encoder.silent", "motion"),),
}
"""Training runs by name, and what each changes about the first."""


@dataclass(frozen=True)
class CounterfactualSettings(ManyRuns):
    """What to change about which policy, or about which training run."""

    train: bool = False
    """Repeat the training run with each change, instead of changing a trained policy while it acts."""
    run: str = ""
    """The trained run whose policy is changed; default <scenario>-<preset>. Not looked at with train."""
    variants: tuple[str, ...] = ()
    """The changes; default all that the run has something for."""
    split: str = "test"
    """Episodes to compare on: test, or validation."""
    sweep: str = "counterfactual"
    """With train: the runs go to <runs>/<sweep>; finished ones are not trained again."""

    def validate(self) -> None:
        """SemoreError naming the first setting that makes no sense."""
        super().validate()
        choices = [name for name in (TRAINED if self.train else VARIANTS) if name not in ("plain", PLAIN)]
        unknown = set(self.variants) - set(choices)
        if unknown:
            raise SemoreError(f"unknown variants {sorted(unknown)}; choose from {', '.join(choices)}")


def acting(settings: CounterfactualSettings) -> None:
    """The policy of a finished run, as it is and under every variant; rows are kept in the run's folder."""
    folder = run_path(settings.runs, settings.run, settings.scenario, settings.preset)
    require_policy(folder, settings)
    view, trained = load_view(folder), run_settings(folder)
    variants = settings.variants or fitting(trained.agent.encoder)
    for name in variants:
        refuse(trained.agent.encoder, VARIANTS[name])
    from semore.evaluate.counterfactual.policies import CounterfactualCourse, attention_gates  # with torch

    course = CounterfactualCourse(
        folder, trained.scenario, view["weather"], view["reward"], trained.simulator, trained.carla
    )
    first = FIRST_SEED[settings.split]
    rows = evaluate_policies(
        course, (PLAIN, *variants), range(first, first + settings.episodes),
        folder / f"counterfactual-{settings.split}.csv",
        worker_count(trained.simulator, settings.workers, trained.carla),
    )  # fmt: skip
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(results(rows, f"{folder}: {trained.scenario}, {settings.episodes} {settings.split} episodes"))
    if compared := differences(rows):
        console.print(compared)
    for line in (failures(rows), attention_gates(folder)):
        if line:
            console.print(line, highlight=False)
    print(f"every episode: {folder / f'counterfactual-{settings.split}.csv'}")
    print(f"next: {train_with_changes(settings, trained)}")


def train_with_changes(settings: CounterfactualSettings, trained: TrainSettings) -> str:
    """The command that repeats the training run with every change that its data allow, on the same episodes."""
    known = set_names(Path(trained.data) / "knowledge")
    every = _every_change(trained)
    changes = [
        name for name in every if all(key != "knowledge" or value in known for key, value in TRAINED[name])
    ]  # fmt: skip
    names = ("preset", "scenario", "runs", "run", "seed", "seeds")
    own = [
        f"{name}={json.dumps(value, separators=(',', ':')) if not isinstance(value, str) else value}"
        for name, value in changed(trained, *names).items()
        if name != "method"
    ]
    asked = {"preset": trained.preset, "scenario": trained.scenario, "train": True, "base": tuple(own)}
    more = {} if changes == every else {"variants": tuple(changes)}
    driven = choices(settings, "runs", "sweep", "split", "episodes")
    plain = {name: getattr(CounterfactualSettings, name) for name in driven}
    return command("counterfactual", asked | more | {k: v for k, v in driven.items() if v != plain[k]})


def _every_change(base: TrainSettings) -> list[str]:
    """All of TRAINED that change something about such a run: behind gates no_mask_path would be no_attention again."""
    apart = base.agent.encoder.concatenates_mask
    return [name for name in TRAINED if name != "plain" and (apart or name != "no_mask_path")]


def training(settings: CounterfactualSettings) -> None:
    """The training run of the preset, as it is and with every change, for every seed."""
    base = settings_of(settings.preset, settings.scenario, settings.base, Point((), ()))
    chosen = ["plain", *(settings.variants or _every_change(base))]
    points = [
        Point((("variant", name),), TRAINED[name])
        for name in chosen
        if ("knowledge", base.knowledge) not in TRAINED[name]
    ]
    _check_knowledge(base, chosen)
    finished = run_points(settings, points)
    runs = [run.folder for run in finished]
    if settings.split == "test":
        print(f"next: {command('report', {'runs': tuple(map(str, runs))})}")
    else:
        print(f"next: {' && '.join(map(evaluate_command, runs))}")


def _check_knowledge(base: TrainSettings, chosen: list[str]) -> None:
    root = Path(base.data) / "knowledge"
    read_manifest(root, base.knowledge)
    for name in chosen:
        wanted = dict(TRAINED[name]).get("knowledge", base.knowledge)
        if wanted not in set_names(root):
            raise SemoreError(
                f"variant {name} trains on the knowledge set {wanted!r}, which {root} does not have; make it with "
                f"`{annotate_command(base, wanted)}`, or choose other --variants"
            )


def main() -> None:
    settings = read_settings(CounterfactualSettings, "counterfactual")
    only_task_trains()
    settings.validate()
    if settings.train:
        training(settings)
    else:
        acting(settings)


if __name__ == "__main__":
    run_command(main)
