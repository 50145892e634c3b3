"""Collects the finished runs of a study into its CSV files.

Runs under way are left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from semore.datasets.atomic_io import read_json
from semore.datasets.errors import SemoreError
from semore.datasets.hints import command
from semore.evaluate.episodes import Row, read_rows
from semore.evaluate.policies import UNTAUGHT
from semore.evaluate.runs import Run, read_runs
from study.__main__ import finished
from study.drive import Drive
from study.plan import SCENARIOS, Planned, plan
from study.results.files import WORLD, CurvePoint, Episode, Results, RunRecord


def collect_results(folder: Path) -> Results:
    """Everything that the study in this folder has finished so far, whichever parts and seeds it was asked for. Says
    how many finished runs it leaves out because the preset has changed since."""
    if not (folder / "study.json").exists():
        known = ", ".join(sorted(path.parent.name for path in folder.parent.glob("*/study.json"))) or "none"
        begin = command("python -m study", {"runs": str(folder.parent), "study": folder.name})
        raise SemoreError(
            f"{folder} is no study: it has no study.json; studies in {folder.parent}: {known}. Choose another --study, "
            f"or begin this one: `{begin}`"
        )
    asked = read_json(folder / "study.json")
    planned, drive = _planned(folder, asked["preset"], asked["base"]), Drive(**asked["drive"])
    runs: list[RunRecord] = []
    curves: list[CurvePoint] = []
    episodes: list[Episode] = []
    read: dict[str, Run | None] = {}
    for each in planned:
        settings, name = each.settings, _without_seed(each)
        first = settings.run not in read
        if first:
            there = finished(settings) and not drive.missing(settings)
            read[settings.run] = read_runs([settings.folder])[0] if there else None
        run = read[settings.run]
        if run is None:
            continue
        runs.append(_record(each, name, run))
        if first:
            curves += [CurvePoint(name, run.seed, *point) for point in run.curve.itertuples(index=False)]
            own = [row for row in run.rows if row.policy not in UNTAUGHT and row.scenario == settings.scenario]
            episodes += [_episode(row, each.part, name, run.method, settings.reward, run.seed) for row in own]
    for path in sorted((folder / WORLD).glob("*.csv")):
        episodes += [_episode(row, WORLD, "", "", path.stem, 0) for row in read_rows(path)]
    kept = {each.settings.folder.name for each in planned if read[each.settings.run]}
    if others := {path.parent.name for path in folder.glob("*/summary.json")} - kept:
        print(f"left out, as not wholly driven or of other settings than the study's now: {', '.join(sorted(others))}")
    return Results(folder.name, runs, curves, episodes)


def _planned(folder: Path, preset: str, base: Sequence[str]) -> list[Planned]:
    """The study's plan for all training seeds that it has a run of."""
    found = (re.search(r"-seed(\d+)$", path.name) for path in folder.iterdir())
    seeds = sorted({int(match[1]) for match in found if match}) or [1]
    return plan(preset, SCENARIOS, seeds, seeds, str(folder), base)


def _without_seed(each: Planned) -> str:
    return each.settings.run.removesuffix(f"-seed{each.settings.seed}")


def _record(each: Planned, name: str, run: Run) -> RunRecord:
    settings, folder, summary = each.settings, run.folder, run.summary
    cost = read_json(folder / "cost.json") if (folder / "cost.json").exists() else {"training": 0.0, "driving": 0.0}
    mask = summary["student_mask"] or {"student_auc": 0.0, "constant_auc": 0.0}
    return RunRecord(
        each.part, each.label, name, run.method, settings.scenario, settings.reward, run.seed,
        "; ".join(f"{key}={value}" for key, value in each.changes.items()),
        int(summary["updates"]), int(max(run.curve["decisions"], default=0)),
        float(summary["seconds"]), float(cost["training"]), float(cost["driving"]),
        int(summary["best_update"]), float(summary["best_validation_reward"]),
        float(mask["student_auc"]), float(mask["constant_auc"]), summary["weights_sha256"],
    )  # fmt: skip


def _episode(row: Row, part: str, run: str, method: str, reward: str, train_seed: int) -> Episode:
    return Episode(
        part, run, method, row.scenario, reward, train_seed, row.policy, row.seed, row.ending, row.reward,
        row.distance, row.crash_intensity, row.steer, row.brake, row.steps,
    )  # fmt: skip
