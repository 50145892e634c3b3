"""Where machine code is kept: beside its sources, or elsewhere when these may not be written."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def folder_for(name: str, beside: Path, chosen: str) -> str:
    """The first folder called `name` that can be written: in the user's NUMBA_CACHE_DIR if they have `chosen` one,
    `beside` the sources, in the user's cache, in the temporary folder; "" when there is none. Code that was compiled
    `beside` the sources, for example when a container was built, is taken along."""
    for place in _places(beside, chosen):
        folder = place / name
        if not _writable(folder):
            continue
        if (beside / name).is_dir() and not any(folder.iterdir()):
            _copy(beside / name, folder)
        return str(folder)
    return ""


def _places(beside: Path, chosen: str) -> Iterator[Path]:
    if chosen:
        yield Path(chosen).absolute()
    yield beside
    home = Path(os.path.expanduser("~"))  # stays "~" for a user without a name and a home
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    if cache.is_absolute():
        yield cache / "semore"
    everybodys = Path(tempfile.gettempdir()) / f"semore-{os.getuid()}"
    if _writable(everybodys) and _nobody_elses(everybodys):
        yield everybodys


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _nobody_elses(folder: Path) -> bool:
    """Whoever can write machine code where we look for it can do what we can."""
    made = folder.lstat()
    return stat.S_ISDIR(made.st_mode) and made.st_uid == os.getuid() and not made.st_mode & 0o022


def _copy(old: Path, new: Path) -> None:
    """All at once, since other processes may look for code there at the same time."""
    with suppress(OSError), tempfile.TemporaryDirectory(dir=new.parent) as temporary:  # another was first, or no room
        os.rename(shutil.copytree(old, Path(temporary) / new.name), new)
