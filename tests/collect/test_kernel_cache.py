"""Where compiled kernels are kept when their sources may not be written, or the user wants them elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from semore.collect.kernel_cache import folder_for

ROOT = Path(__file__).resolve().parents[2]
STEP = (
    "import gymnasium, semore.collect, numba\n"
    "env = gymnasium.make('semore/JayWalk-v0', size=16, camera=16)\n"
    "env.reset(seed=1); env.step(env.action_space.sample())\n"
    "from semore.collect.embedded import jit\n"
    "print(jit.cache_folder(), numba.config.CACHE_DIR, sep='|')\n"
)
NOBODY = [
    "setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups",
    # It may read all that we may, wherever the interpreter lies, but write nothing of ours.
    "--bounding-set=-all,+dac_read_search", "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
    "env", "-u", "HOME", "-u", "USER", "-u", "LOGNAME", "-u", "XDG_CACHE_HOME", "-u", "NUMBA_CACHE_DIR",
]  # fmt: skip


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The sources' own folder with code in it, and a home and a temporary folder that are empty."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    (tmp_path / "tmp").mkdir()
    code = tmp_path / "tree" / "numba-1" / "deep"
    code.mkdir(parents=True)
    (code / "kernel.nbi").write_bytes(b"machine code")
    return tmp_path


def bar(place: Path) -> None:
    """Make it a place where nobody can write, not even root: a file stands where the folder would be."""
    shutil.rmtree(place, ignore_errors=True)
    place.write_text("")


def test_the_first_place_that_can_be_written(places):
    tree, home, own = places / "tree", places / "home", f"semore-{os.getuid()}"
    chosen = str(places / "chosen")
    assert folder_for("numba-1", tree, chosen) == f"{chosen}/numba-1"
    assert folder_for("numba-1", tree, "") == f"{tree}/numba-1"
    bar(tree)
    assert folder_for("numba-1", tree, "") == f"{home}/.cache/semore/numba-1"
    bar(home)
    assert folder_for("numba-1", tree, "") == f"{places}/tmp/{own}/numba-1"
    assert (places / "tmp" / own).stat().st_mode & 0o777 == 0o700
    bar(places / "tmp" / own)
    assert folder_for("numba-1", tree, "") == ""


def test_code_beside_the_sources_is_taken_along(places):
    chosen = places / "chosen"
    for _ in range(2):
        folder = Path(folder_for("numba-1", places / "tree", str(chosen)))
        assert (folder / "deep" / "kernel.nbi").read_bytes() == b"machine code"
        assert [entry.name for entry in chosen.iterdir()] == ["numba-1"]
        (folder / "deep" / "more.nbi").touch()
    assert not list(Path(folder_for("numba-2", places / "tree", str(chosen))).iterdir())


def test_code_that_others_could_have_written_is_not_run(places):
    bar(places / "tree")
    bar(places / "home")
    open_to_all = places / "tmp" / f"semore-{os.getuid()}"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert folder_for("numba-1", places / "tree", "") == ""
    open_to_all.rmdir()
    (places / "elsewhere").mkdir(mode=0o700)
    open_to_all.symlink_to(places / "elsewhere")
    assert folder_for("numba-1", places / "tree", "") == ""


def drive(folder: Path, *before: str, **environment: str) -> tuple[str, str]:
    """Where an environment that is driven in a process of its own keeps its code, and what numba is left with."""
    told = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    done = subprocess.run(
        [*before, sys.executable, "-c", STEP], capture_output=True, text=True, cwd=folder, env=told, timeout=250
    )
    assert done.returncode == 0, done.stderr
    kept, _, left = done.stdout.strip().rpartition("\n")[2].partition("|")
    return kept, left


@pytest.mark.slow
def test_the_user_s_numba_cache_dir_is_used_and_left_as_it_is(tmp_path):
    kept, left = drive(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "mine"))
    assert left == str(tmp_path / "mine")
    assert Path(kept).parent == tmp_path / "mine"
    assert list(Path(kept).rglob("*.nbi"))


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_a_user_without_name_and_home_drives_in_a_tree_that_is_not_theirs(tmp_path):
    """As `docker run --user 12345` does in an image that root has made."""
    with tempfile.TemporaryDirectory() as temporary:
        os.chmod(temporary, 0o777)
        kept, _ = drive(Path(temporary), *NOBODY, TMPDIR=temporary)
        assert Path(kept).parent == Path(temporary) / "semore-12345"
        assert list(Path(kept).rglob("*.nbi"))
        assert os.listdir(temporary) == ["semore-12345"]  # and no folder called "~"
