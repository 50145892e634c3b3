"""Compare runs in one self-contained HTML file: results with intervals, curves, masks, buffer, films, provenance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semore.datasets.atomic_io import write_text
from semore.datasets.command_line import read_settings
from semore.datasets.errors import SemoreError
from semore.datasets.run_command import run_command
from semore.evaluate.chosen_runs import ChosenRuns
from semore.evaluate.report.runs import contenders, courses
from semore.evaluate.run_commands import evaluate_command
from semore.evaluate.runs import read_run


@dataclass(frozen=True)
class ReportSettings(ChosenRuns):
    """What to compare, and where to write it."""

    out: str = ""
    """The file to write; default report.html, in the run's folder when there is but one, else in the folder of all."""
    films: bool = True
    """Film the best, median and worst episode and the hardest crashes of each contender's first run."""
    watts: float = 10.0
    """Power of one busy core, for the estimate of energy."""

    def __post_init__(self) -> None:
        if self.watts <= 0:
            raise SemoreError(f"watts {self.watts} must be above 0")


def main() -> None:
    settings = read_settings(ReportSettings, "report")
    folders = settings.paths()
    runs = [read_run(folder) for folder in folders]
    found = courses(runs)
    if not found:
        raise SemoreError(
            f"none of the runs has a row of its trained policy; drive it: `{evaluate_command(folders[0])}`"
        )
    import torch  # it and what draws take seconds: mistakes are told before

    from semore.evaluate.report.media import Clip, clips
    from semore.evaluate.report.page import LIMIT, render

    torch.set_num_threads(1)  # one picture at a time: a second thread would only wait, at full load
    filmed: dict[str, list[Clip]] = {}
    missing: dict[str, str] = {}
    for one in contenders(runs):
        run = one.first
        if not settings.films:
            missing[run.name] = "not filmed: --films false"
        elif not (run.folder / "policy.pt2").exists():
            missing[run.name] = "not filmed: its policy.pt2 is gone"
        else:
            own = [course for course in found if run.episodes("trained", course)]
            filmed[run.name] = clips(run, own[0]) if own else []
    text = render(runs, filmed, settings.watts, missing)
    if len(text.encode()) > LIMIT:
        raise SemoreError(f"the report would take {len(text.encode()) / 1e6:.1f} MB of text; compare fewer runs")
    place = folders[0] if len(folders) == 1 else Path(settings.folder)
    out = Path(settings.out) if settings.out else place / "report.html"
    write_text(out, text)
    print(f"{out}: {len(runs)} runs, {len(text.encode()) / 1e6:.1f} MB in one file")
    print(f"next: open it in a browser: {out.resolve().as_uri()}")


if __name__ == "__main__":
    run_command(main)
