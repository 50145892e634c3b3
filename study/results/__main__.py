"""The study's results: CSV files of everything that is finished, the tables of study/docs/results.md, and pictures.

The CSV files are study/docs/results/<study>-*.csv. The command may be run at any time, also while the study runs; with
`--from_csv true` it works from the files alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from semore.datasets.atomic_io import write_text
from semore.datasets.command_line import read_settings
from semore.datasets.hints import choices, command
from semore.datasets.run_command import run_command
from study.results.collect import collect_results
from study.results.files import Results, read_results
from study.results.pages import fill, skeleton
from study.results.pictures import draw_curves, draw_overview
from study.results.tables import TABLES


@dataclass(frozen=True)
class ResultsSettings:
    """Which study, and where its results go."""

    runs: str = "runs"
    """Folder of all runs."""
    study: str = "study"
    """Name of the study."""
    page: str = "study/docs/results.md"
    """The page with the tables; one without prose is written where there is none."""
    folder: str = "study/docs/results"
    """Folder of the CSV files and pictures."""
    from_csv: bool = False
    """Make tables and pictures from the CSV files alone, without reading any run."""


def write_page(page: Path, folder: Path) -> None:
    """The tables of a page from the CSV files of the folder."""
    text = page.read_text(encoding="utf-8") if page.exists() else skeleton()

    @cache
    def results(study: str) -> Results:
        return read_results(folder, study)

    write_text(page, fill(text, results, str(page)))


def draw_all(results: Results, folder: Path) -> list[Path]:
    """The overview, and the curves of each scenario; pages link to all of them, whatever has been trained."""
    drawn = [folder / f"{results.study}-overview.png"]
    draw_overview(results, drawn[0])
    for about in TABLES.values():
        if about.parts[0] == "main":
            drawn.append(folder / f"{results.study}-{about.scenario}.png")
            draw_curves(results, about.scenario, drawn[-1])
    return drawn


def main() -> None:
    settings = read_settings(ResultsSettings, "python -m study.results")
    folder, page = Path(settings.folder), Path(settings.page)
    if not settings.from_csv:
        for path in collect_results(Path(settings.runs) / settings.study).write(folder):
            print(f"{path}: {path.stat().st_size / 1000:,.0f} kB")
    results = read_results(folder, settings.study)
    write_page(page, folder)
    drawn = draw_all(results, folder) if results.runs else []
    print(
        f"{len(results.runs)} runs, {len(results.episodes):,} episodes; written: {', '.join(map(str, [page, *drawn]))}"
    )
    again = command("python -m study", choices(settings, "runs", "study"))
    print(f"next: look at {page}; `{again}` goes on with what is missing")


if __name__ == "__main__":
    run_command(main)
