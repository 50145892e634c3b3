"""File systems without flock, or without fsync of folders, as clusters have them: a preloaded library has the kernel's
calls answer as theirs do, in real processes."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from semore.datasets.lock_files import named_lock

SOURCE = Path(__file__).with_name("refusing_files.c")
HOLD = """
import sys, time
from pathlib import Path
from semore.datasets.errors import SemoreError
from semore.datasets.atomic_io import exclusive_lock
try:
    with exclusive_lock(Path(sys.argv[1]), "a test"):
        print("held", flush=True)
        sys.stdin.readline()
except SemoreError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: faults of file systems cannot be injected")
    made = tmp_path_factory.mktemp("library") / "refusing_files.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", made, SOURCE, "-ldl"], check=True)
    return made


def refusing(library: Path, below: Path, **codes: int) -> dict[str, str]:
    """The environment of a process that finds the file system `below` so."""
    chosen = {f"REFUSE_{name.upper()}": str(code) for name, code in codes.items()}
    return {**os.environ, "LD_PRELOAD": str(library), "REFUSING": str(below), **chosen}


def hold(lock: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """A process that takes the lock and keeps it until told; its first line says how that went."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@pytest.mark.parametrize("code", ["ENOLCK", "ENOSYS"])
def test_without_flock_one_process_at_a_time_and_a_killed_one_holds_nothing(library, tmp_path, code):
    environment, lock = refusing(library, tmp_path, flock=getattr(errno, code)), tmp_path / ".lock"
    first = hold(lock, environment)
    assert said(first) == "held"
    second = hold(lock, environment)
    assert f"{lock}: a test is already running as process {first.pid} on {os.uname().nodename}; wait" in said(second)
    first.send_signal(signal.SIGKILL)
    first.wait()
    third = hold(lock, environment)
    assert said(third) == "held"
    third.communicate("\n")
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    second.communicate()


def test_many_that_come_at_once_hold_the_lock_one_after_another(library, tmp_path):
    """None is ever inside with another; who finds it taken says so."""
    environment, lock = refusing(library, tmp_path, flock=errno.ENOLCK), tmp_path / ".lock"
    code = HOLD.replace("sys.stdin.readline()", "(Path(sys.argv[1] + '.in')).mkdir(); time.sleep(0.05); "
                        "(Path(sys.argv[1] + '.in')).rmdir()")  # fmt: skip
    several = [
        subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(5)
    ]
    ended = [(process.communicate()[0].strip(), process.returncode) for process in several]
    assert all(code == 0 and ("held" in words or "is already running" in words) for words, code in ended), ended
    assert any(words == "held" for words, _ in ended)


def test_a_holder_on_another_machine_is_believed_and_named(tmp_path):
    lock = tmp_path / ".lock"
    left = tmp_path / ".lock.held-node7.example.0123abcd.4026531836.4242.99"
    left.touch()
    with pytest.raises(Exception, match=r"process 4242 on node7\.example; wait.* if that one is gone, remove .*\.99"):
        named_lock(lock, "a test").__enter__()
    assert left.exists()
    left.unlink()
    with named_lock(lock, "a test"), pytest.raises(Exception, match=f"already running as process {os.getpid()} on "):
        named_lock(lock, "a test").__enter__()
    assert not list(tmp_path.iterdir())


def test_rollouts_are_written_where_folders_cannot_be_synced_nor_locked(library, tmp_path):
    """The whole of a recording, from lock to rename; the shim alone would have ended it."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from tiny_rollouts import tiny_rollouts\nfrom semore.datasets.rollouts.store import Rollouts\n"
        "from semore.datasets.knowledge.cache import KnowledgeCache\nfrom tiny_rollouts import tiny_knowledge\n"
        "path = Path(sys.argv[1]) / 'a.zarr'\n"
        "with Rollouts(path).lock(): tiny_knowledge(Path(sys.argv[1]) / 'knowledge', tiny_rollouts(path, 0))\n"
        "Rollouts(path).episode('jaywalk-0000000').verify()"
    )
    environment = refusing(library, tmp_path, flock=errno.ENOSYS, fsync=errno.EINVAL)
    subprocess.run([sys.executable, "-c", code, str(tmp_path), str(SOURCE.parents[1])], check=True, env=environment)
    plain = "import os, sys; os.fsync(os.open(sys.argv[1], os.O_RDONLY))"
    bare = subprocess.run(
        [sys.executable, "-c", plain, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert "Invalid argument" in bare.stderr  # so the fault was there


def test_leases_on_carla_servers_go_where_there_are_locks(library, tmp_path):
    code = (
        "from semore.collect.carla.ports import lease; from semore.collect.carla.settings import CarlaSettings\n"
        "settings = CarlaSettings(host='lease-test', port=39123, servers=1)\n"
        "with lease(settings, 0.0):\n"
        "    try: lease(settings, 0.0)\n"
        "    except Exception as error: print(error)\n"
    )
    environment = {**refusing(library, tmp_path, flock=errno.ENOLCK), "TMPDIR": str(tmp_path)}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, env=environment, check=False)
    assert "all CARLA servers are in use (lease-test:39123 by process" in done.stdout, done.stderr
    everywhere = {**environment, "REFUSING": "/"}
    done = subprocess.run(run, capture_output=True, text=True, env=everywhere, check=False)
    assert "no folder for the leases on CARLA servers" in done.stderr
    assert "set TMPDIR to a local folder" in done.stderr
