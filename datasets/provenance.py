"""Provenance: the code, packages and machine behind a file, saved with every rollout, cache record and run."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from semore.datasets.cores import cores

PACKAGES = ("torch", "numpy", "numba", "zarr", "h5py", "gymnasium", "pytorch-lightning", "transformers")


def checkout() -> Path | None:
    """The folder of the repository that this code lies in; None for an installed wheel, whatever folder holds that."""
    here = Path(__file__).resolve().parent
    root = here.parent
    return root if (root / "src" / "semore" / here.name).resolve() == here else None


@cache
def code_version() -> str:
    """Package version; in a checkout plus git revision, with `+dirty` when the tree has uncommitted changes."""
    version, root = _version("semore"), checkout()
    if root is None or not (root / ".git").exists():  # else git would answer for a repository that holds this folder
        return version
    try:
        revision = _git(root, "rev-parse", "--short=12", "HEAD")
        dirty = "+dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    except (OSError, subprocess.CalledProcessError):
        return version
    return f"{version}@{revision}{dirty}"


def environment() -> dict[str, str]:
    """Versions and machine, for the provenance file of a run."""
    return {
        "semore": code_version(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {cores()} cores",
        **{package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(root: Path, *arguments: str) -> str:
    # Variables such as GIT_DIR, set where a hook runs us, would name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True, timeout=10, env=environment
    ).stdout.strip()
