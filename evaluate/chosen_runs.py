"""Which runs a command compares: named ones, or the one that preset, scenario, method and world stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semore.datasets.errors import SemoreError
from semore.datasets.names import run_path


@dataclass(frozen=True)
class ChosenRuns:
    """Which runs to compare."""

    runs: tuple[str, ...] = ()
    """Names of the runs, or paths of their folders; the first one is what the others are compared with. Default: the
    run that training with this preset, scenario, method and simulator makes."""
    folder: str = "runs"
    """Folder of all runs."""
    preset: str = "laptop"
    """With scenario, method and simulator the name of a run, when none is given."""
    scenario: str = "JayWalk"
    """As preset."""
    method: str = "semore"
    """As preset."""
    simulator: str = "embedded"
    """As preset."""
    run: str = ""
    """A single run's name."""

    def paths(self) -> list[Path]:
        """The runs' folders; SemoreError naming one that is given twice."""
        names: Sequence[str] = self.runs or (self.run,)
        found = [
            Path(name) if name and Path(name).is_dir()
            else run_path(self.folder, name, self.scenario, self.preset, self.method, self.simulator)
            for name in names
        ]  # fmt: skip
        if len({path.resolve() for path in found}) < len(found):
            raise SemoreError(f"runs {', '.join(names)}: one is named twice")
        return found
