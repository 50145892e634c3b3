"""The study: every method, ablation and kind of knowledge, trained and driven on the same test episodes.

`python -m study --parts main ablations` also prints the tables of what is finished, and resumes when repeated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from semore.datasets.atomic_io import read_json, write_json
from semore.datasets.command_line import read_settings
from semore.datasets.cores import cores
from semore.datasets.errors import SemoreError
from semore.datasets.hints import choices, command
from semore.datasets.progress import meter
from semore.datasets.rollouts.schema import SEED_SPLITS
from semore.datasets.run_command import run_command
from semore.train.launch import train_runs
from semore.train.settings import TrainSettings, hyperparameters, started_with
from semore.train.stopping import only_task_trains
from study.data import prepare
from study.drive import Drive, drive_world
from study.plan import PARTS, SCENARIOS, Planned, plan, work


@dataclass(frozen=True)
class StudySettings:
    """What to train, and on what to drive."""

    preset: str = "laptop"
    """Preset of all runs: a file of presets/ by name, or a path to a YAML file."""
    parts: tuple[str, ...] = tuple(PARTS)
    """Parts of the study, one after another: main, rivals, ablations, masks, safety, sensitivity. A run that several
    parts have is trained by the first of them."""
    scenarios: tuple[str, ...] = SCENARIOS
    """Scenarios to train and drive in, of those that a part has."""
    seeds: tuple[int, ...] = (11, 12, 13, 14, 15)
    """Training seeds: all runs of a part with the first one, then with the next."""
    few_seeds: tuple[int, ...] = (11, 12, 13)
    """Training seeds of the other parts than main and rivals."""
    base: tuple[str, ...] = ("threads=1",)
    """NAME=VALUE of a training setting, over the preset's, for all runs; may be given several times. One thread a run:
    two runs at once are faster on two cores than one after the other."""
    episodes: int = 32
    """Test episodes that every run drives, the same for all."""
    blindfolded: int = 8
    """Test episodes that it drives seeing grey pictures, and seeing its first picture only (0: none)."""
    first_episode: int = 50
    """Test episodes to leave out before these: for a final run on episodes that nobody has looked at."""
    parallel: int = 0
    """Runs at once; 0: as many as there are GPUs, or cores for their `threads` each."""
    scheduler: str = "none"
    """none, local, tcp://... or a scheduler file: a Dask cluster that trains the runs, and drives."""
    runs: str = "runs"
    """Folder of all runs; these go to <runs>/<study>."""
    study: str = "study"
    """Name of the study."""

    @property
    def folder(self) -> Path:
        """Where its runs are."""
        return Path(self.runs) / self.study

    @property
    def drive(self) -> Drive:
        """The test episodes of a run."""
        return Drive(self.episodes, self.blindfolded, self.first_episode)

    def plan(self) -> list[Planned]:
        """Every row of every part, with its training runs; SemoreError naming the first setting without sense."""
        for name, seeds in (("seeds", self.seeds), ("few_seeds", self.few_seeds)):
            if not seeds or len(set(seeds)) < len(seeds):
                raise SemoreError(f"{name} {list(seeds)} must name at least one training seed, each once")
        last = self.first_episode + max(self.episodes, self.blindfolded)
        if self.episodes < 1 or min(self.blindfolded, self.first_episode, self.parallel) < 0:
            raise SemoreError(
                f"episodes {self.episodes} must be at least 1; blindfolded {self.blindfolded}, first_episode "
                f"{self.first_episode} and parallel {self.parallel} at least 0"
            )
        if last > len(SEED_SPLITS["test"]):
            raise SemoreError(f"there are {len(SEED_SPLITS['test']):,} test episodes; the last one asked for is {last}")
        return plan(self.preset, self.scenarios, self.seeds, self.few_seeds, str(self.folder), self.base)


def finished(settings: TrainSettings) -> bool:
    """Whether the run's folder holds the trained run of these settings."""
    folder = settings.folder
    if not ((folder / "summary.json").exists() and (folder / "policy.pt2").exists()):
        return False
    written = started_with(read_json(folder / "settings.json")["identity"])
    written.pop("rollouts_fingerprint", None)
    return bool(written == hyperparameters(settings))


def run_study(settings: StudySettings) -> None:
    """Make the data, drive the world's own rows, train and drive what is missing. SemoreError when a run failed, after
    everything else is done."""
    asked = work(settings.plan(), settings.parts)
    if not asked:
        raise SemoreError(f"parts {', '.join(settings.parts)} have no run in {', '.join(settings.scenarios)}")
    missing = [each for each in asked if not finished(each.settings) or settings.drive.missing(each.settings)]
    counts = Counter(each.part for each in missing)
    todo = ", ".join(f"{part} {counts[part]}" for part in settings.parts if counts[part]) or "nothing"
    print(
        f"study {settings.folder}: {len(asked)} runs, {len(asked) - len(missing)} are finished; to do: {todo}",
        flush=True,
    )
    about = {"preset": settings.preset, "base": list(settings.base), "drive": asdict(settings.drive)}
    every = [each.settings for each in asked]
    if missing:
        prepare([each.settings for each in missing], settings.folder / "data")
    write_json(settings.folder / "study.json", about)
    drive_world(every, settings.folder / "world", settings.episodes, settings.first_episode, cores())
    failed = _train(settings, missing) if missing else {}
    if failed:
        told = "\n".join(f"  {where}: {reason}" for where, reason in failed.items())
        raise SemoreError(f"{len(failed)} of {len(asked)} runs failed; the same command goes on with them\n{told}")


def _train(settings: StudySettings, missing: Sequence[Planned]) -> dict[Path, str]:
    """Train and drive; the folders and errors of runs that failed."""
    failed = {}
    with meter(f"study {settings.study}", len(missing), "runs") as progress:
        progress.say(f"training {len(missing)} runs; each says more in {settings.folder}/<run>/train.log")
        runs = [each.settings for each in missing]
        for run, outcome in train_runs(runs, settings.parallel, settings.scheduler, settings.drive):
            if isinstance(outcome, str):
                failed[run.folder] = outcome
                progress.say(f"{run.folder}: error: {outcome}")
            progress.advance(1, run.run)
    return failed


def main() -> None:
    settings = read_settings(StudySettings, "python -m study")
    only_task_trains()
    run_study(settings)
    print(f"next: {command('python -m study.results', choices(settings, 'runs', 'study'))}")


if __name__ == "__main__":
    run_command(main)
