"""A folder in which `make` runs as in an installed checkout, with any program for its console command."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent


def make_checkout(folder: Path, program: str) -> Path:
    """Our Makefile, with nothing left to install, and `program` as .venv/bin/semore."""
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("requirements.lock", "requirements-carla.lock", "pyproject.toml"):
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in (".installed", ".carla"):
        (folder / ".venv" / name).touch()
    command = folder / ".venv" / "bin" / "semore"
    command.write_text(program)
    command.chmod(0o755)
    return folder
