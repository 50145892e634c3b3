"""Learning curves in numbers: how high, how steadily and how soon runs learn, by scenario and method.

`python -m study.curves RUN … --driver HighBeam=206`: a Markdown table and a picture. Runs under way count as far as
they went."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from semore.datasets.atomic_io import atomic_file, read_json, write_text
from semore.datasets.command_line import SOME, read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.names import scenario_name
from semore.datasets.run_command import run_command
from semore.evaluate.runs import metrics_of, require_files
from semore.evaluate.table import markdown

matplotlib.use("agg")

SEED_ENDING: Final = re.compile(r"-s(?:eed)?\d+$")
"""What the name of a run ends with that has others of other seeds beside it."""
GROUPED_BY: Final = ("method", "name")
NOTHING: Final = "–"
HEADER: Final = (
    "scenario", "label", "seeds", "updates", "last half", "std over seeds", "of mean", "largest fall", "area",
    "updates to half the driver's", "beyond half at last", "steer", "steer change", "brake",
)  # fmt: skip
NOTES: Final = """\
Rewards are means over a validation's episodes. *Last half*: mean of the validations in the second half of the updates
done, mean over seeds (each seed); *of mean*: its standard deviation over seeds as a share of it. *Largest fall*: from
the best validation to the lowest one after it, mean over seeds (the worst seed). *Area*: mean reward over updates, by
the trapezoid rule from the first validation to the last; what was before the first was not measured and does not count.
*Updates to half*: the first validation at half of the driver's reward or beyond, by seed. Steer (mean |steer|), its
change and the brake are those of the last half. An asterisk marks runs under way.
"""


@dataclass(frozen=True, eq=False)
class Curve:
    """The validations of a run: updates (N,) ascending, and by name what they measured there, (N,) NaN where they did
    not; `planned` is how many updates it is to have."""

    scenario: str
    label: str
    seed: int
    planned: int
    updates: NDArray[np.int64]
    measured: Mapping[str, NDArray[np.float64]]

    @property
    def reward(self) -> NDArray[np.float64]:
        """(N,) mean reward of each validation."""
        return self.measured["reward"]

    @property
    def late(self) -> NDArray[np.bool_]:
        """(N,) which of them are in the second half of the updates done."""
        late: NDArray[np.bool_] = self.updates >= self.updates[-1] / 2
        return late

    def mean(self, name: str) -> float:
        """Of the last half; NaN where it was never measured."""
        values = self.measured.get(name, np.full(len(self.updates), np.nan))[self.late]
        known = values[np.isfinite(values)]
        return float(known.mean()) if len(known) else np.nan

    @property
    def fall(self) -> float:
        """From the best validation to the lowest one after it, ≥ 0."""
        best = int(self.reward.argmax())
        return float(self.reward[best] - self.reward[best:].min())

    @property
    def area(self) -> float:
        """Mean reward over updates from the first validation to the last, by the trapezoid rule."""
        span = int(self.updates[-1] - self.updates[0])
        return float(np.trapezoid(self.reward, self.updates) / span) if span else float(self.reward[0])

    def reached(self, reward: float) -> int | None:
        """Updates at the first validation at `reward` or beyond; None if there is none."""
        (there,) = np.nonzero(self.reward >= reward)
        return int(self.updates[there[0]]) if len(there) else None


def read_curve(run: Path, by: str = "method", last: int = 0) -> Curve | None:
    """The run's curve, up to `last` updates (0: all); None when nothing was validated yet. SemoreError when the folder
    is no run."""
    require_files(run, "settings.json")
    settings = read_json(run / "settings.json")["settings"]  # of any version: little is read of it
    if not (run / "metrics.csv").exists():
        return None
    logged = {
        name.removeprefix("validation/"): values
        for name, values in metrics_of(run).items() if name.startswith("validation/")
    }  # fmt: skip
    updates = [update for update in sorted(logged.get("reward", {})) if update <= (last or update)]
    if not updates:
        return None
    scenario, planned = str(settings["scenario"]), int(settings["schedule"]["updates"])
    named = SEED_ENDING.sub("", run.name).removeprefix(f"{scenario}-")
    measured = {name: np.array([values.get(update, np.nan) for update in updates]) for name, values in logged.items()}
    label = str(settings["method"]) if by == "method" else named
    return Curve(scenario, label, int(settings["seed"]), min(last or planned, planned), np.array(updates), measured)


def grouped(curves: Sequence[Curve]) -> dict[tuple[str, str], list[Curve]]:
    """By scenario, then label, in the order given, each group by seed; SemoreError when a seed is in a group twice."""
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        groups.setdefault((curve.scenario, curve.label), []).append(curve)
    for (scenario, label), own in groups.items():
        own.sort(key=lambda curve: curve.seed)
        if len({curve.seed for curve in own}) < len(own):
            raise SemoreError(
                f"{scenario}, {label}: several runs have the same training seed; group by the runs' names with "
                "--by name, or name each once"
            )
    scenarios = list(dict.fromkeys(scenario for scenario, _ in groups))
    return dict(sorted(groups.items(), key=lambda group: scenarios.index(group[0][0])))


def row(scenario: str, label: str, curves: Sequence[Curve], driver: float | None) -> list[str]:
    """The cells of HEADER for one group; `driver` is the driver's reward in the scenario, None where it is unknown."""
    late = np.array([curve.mean("reward") for curve in curves])
    falls, areas = ([getattr(curve, name) for curve in curves] for name in ("fall", "area"))
    spread = float(late.std(ddof=1)) if len(late) > 1 else np.nan
    share = f"{spread / late.mean():.0%}" if np.isfinite(spread) and late.mean() > 0 else NOTHING
    reached: list[str] = []
    beyond = NOTHING
    if driver is not None:
        found = [curve.reached(driver / 2) for curve in curves]
        reached = [NOTHING if update is None else f"{update:,}" for update in found]
        beyond = f"{sum(curve.reward[-1] >= driver / 2 for curve in curves)} of {len(curves)}"
    counted = [f"{curve.updates[-1]:,}" + ("*" if curve.updates[-1] < curve.planned else "") for curve in curves]
    return [
        scenario, label, ", ".join(str(curve.seed) for curve in curves), ", ".join(dict.fromkeys(counted)),
        f"{late.mean():.0f} ({', '.join(f'{value:.0f}' for value in late)})", _number(spread, 0), share,
        f"{np.mean(falls):.0f} ({max(falls):.0f})", f"{np.mean(areas):.0f}", ", ".join(reached) or NOTHING, beyond,
        *(_over_seeds(curves, name) for name in ("steer", "steer_change", "brake")),
    ]  # fmt: skip


def _over_seeds(curves: Sequence[Curve], name: str) -> str:
    means = np.array([curve.mean(name) for curve in curves])
    return _number(float(means[np.isfinite(means)].mean()) if np.isfinite(means).any() else np.nan, 3)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else NOTHING


def draw(groups: Mapping[tuple[str, str], Sequence[Curve]], drivers: Mapping[str, float], path: Path) -> None:
    """Write the picture: a panel per scenario, a thin line per seed, a thick one for a group's mean as far as all of
    its runs went, the driver's reward dashed and half of it dotted."""
    scenarios = list(dict.fromkeys(scenario for scenario, _ in groups))
    labels = list(dict.fromkeys(label for _, label in groups))
    figure = Figure(figsize=(5.0 * len(scenarios) + 2.0, 4.2), layout="constrained")
    panels = figure.subplots(1, len(scenarios), squeeze=False)[0]
    for axes, scenario in zip(panels, scenarios, strict=True):
        for (where, label), curves in groups.items():
            if where == scenario:
                _draw_group(axes, curves, label, f"C{labels.index(label) % 10}")
        if scenario in drivers:
            for share, style in ((1.0, (0, (4, 3))), (0.5, (0, (1, 2)))):
                axes.axhline(share * drivers[scenario], color="#333333", linewidth=0.9, linestyle=style, zorder=0)
        axes.set_title(scenario, loc="left", fontweight="bold")
        axes.set(xlabel="updates", ylabel="mean reward on validation seeds")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})


def _draw_group(axes: Axes, curves: Sequence[Curve], label: str, color: str) -> None:
    for curve in curves:
        axes.plot(curve.updates, curve.reward, color=color, alpha=0.35, linewidth=0.9)
    shared = sorted(set.intersection(*(set(curve.updates.tolist()) for curve in curves)))
    each = [curve.reward[np.isin(curve.updates, shared)] for curve in curves]
    marker = "o" if len(shared) == 1 else None
    axes.plot(shared, np.mean(each, 0), marker=marker, color=color, linewidth=2.4, label=f"{label} ({len(curves)})")


def rewards_of_drivers(said: Sequence[str]) -> dict[str, float]:
    """SCENARIO=REWARD words by scenario; SemoreError for a word that is none."""
    found = {}
    for word in said:
        scenario, _, reward = word.partition("=")
        try:
            found[scenario_name(scenario)] = float(reward)
        except ValueError:
            raise SemoreError(f"--driver {word!r} is not SCENARIO=REWARD, such as HighBeam=206") from None
    return found


@dataclass(frozen=True)
class CurvesSettings:
    """Which runs to measure, and where to write."""

    runs: tuple[str, ...] = field(metadata=SOME)
    """Folders of runs, finished or under way."""
    by: str = "method"
    """What runs are one group by: method, or name (the folder's, without its ending -s<seed> or -seed<seed>)."""
    driver: tuple[str, ...] = ()
    """SCENARIO=REWARD: the driver's reward, whose half is what runs are to reach; may be given for each scenario."""
    updates: int = 0
    """Measure up to so many updates (0: as far as each run went)."""
    out: str = "study/docs/results/curves"
    """Prefix of the files to write: <out>.md and <out>.png."""


def main() -> None:
    chosen = read_settings(CurvesSettings, "python -m study.curves")
    if chosen.by not in GROUPED_BY:
        raise SemoreError(f"unknown --by {chosen.by!r}; choose one of {', '.join(GROUPED_BY)}")
    drivers = rewards_of_drivers(chosen.driver)
    read = {run: read_curve(Path(run), chosen.by, chosen.updates) for run in dict.fromkeys(chosen.runs)}
    empty = [Path(run).name for run, curve in read.items() if curve is None]
    groups = grouped([curve for curve in read.values() if curve is not None])
    if not groups:
        raise SemoreError(f"no run was validated yet: {', '.join(empty)}; wait for the first validation")
    rows = [row(*names, curves, drivers.get(names[0])) for names, curves in groups.items()]
    left_out = f"\nNot validated yet, and left out: {', '.join(empty)}.\n" if empty else ""
    text = f"{markdown(HEADER, rows)}\n\n{NOTES}{left_out}"
    image, table = (Path(f"{chosen.out}.{ending}") for ending in ("png", "md"))
    draw(groups, drivers, image)
    write_text(table, text)
    print(f"{text}\nwritten: {table}, {image}")


if __name__ == "__main__":
    run_command(main)
