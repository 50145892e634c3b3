"""Is everything there that Semore can use? A line each, with a remedy for what is missing or does not fit."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import psutil

from semore.collect.carla import fitness
from semore.collect.carla.ping import identity
from semore.collect.carla.settings import CARLA_VERSION, CarlaSettings
from semore.datasets.command_line import read_settings
from semore.datasets.cores import cores
from semore.datasets.hints import command
from semore.datasets.provenance import checkout
from semore.datasets.run_command import run_command
from semore.extras import EXTRAS, missing

GIB: Final = 2**30
MEMORY: Final = 4.0
"""GiB that preset laptop needs with room to spare."""
DISK: Final = 2.0
"""GiB for the laptop preset's rollouts, knowledge and runs."""
PYTHON: Final = ((3, 11), (3, 14))
"""The first version that runs it, and the first that does not."""

State = Literal["ok", "REQUIRED", "warning", "optional"]
"""REQUIRED: nothing works before that is mended. warning: it is there and does not fit. optional: it is not there, and
only those need it who ask for what it is for."""


@dataclass(frozen=True)
class DoctorSettings:
    """What to look at."""

    data: str = "data"
    """Folder of all recorded data: its disk is looked at."""
    models: tuple[str, ...] = ("Qwen/Qwen2-VL-7B-Instruct", "CIDAS/clipseg-rd64-refined")
    """Models you mean to use: folders, checkpoint files, or model hub ids."""
    scheduler: str = ""
    """Address of a Dask scheduler (tcp://…) or its scheduler file."""
    carla: CarlaSettings = field(default_factory=CarlaSettings)
    """CARLA servers."""


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what to do if that is not enough."""

    what: str
    state: State
    found: str
    remedy: str = ""

    def line(self) -> str:
        state = "–" if self.state == "optional" else self.state
        return f"{self.what:<15} {state:<8} {self.found}" + (f"\n{'':<24} → {self.remedy}" if self.remedy else "")


def absent(what: str, purpose: str, remedy: str, found: str = "not installed") -> Finding:
    """Something that only its purpose needs is not there."""
    return Finding(what, "optional", f"{found} (optional: {purpose})", remedy)


def python() -> Finding:
    version = platform.python_version()
    if PYTHON[0] <= sys.version_info[:2] < PYTHON[1]:
        return Finding("Python", "ok", version)
    return Finding("Python", "REQUIRED", version, "install Python 3.11, then make setup PYTHON=python3.11")


def system() -> Finding:
    found = f"{platform.system()} {platform.machine()}"
    if found == "Linux x86_64":
        return Finding("system", "ok", found)
    return Finding(
        "system", "warning", found, "only Linux x86-64 has been tried; the locked packages may not exist here"
    )


def packages(root: Path | None) -> Finding:
    """In a checkout, whether what is installed is what its lock says; else which extras are."""
    if root is None:
        return _extras()
    lock = root / "requirements.lock"
    wanted = dict(line.split("==", 1) for line in lock.read_text().split() if "==" in line)
    other = []
    for name, version in wanted.items():
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "none"
        if found.partition("+")[0] != version.partition("+")[0]:
            other.append(f"{name} {found} for {version}")
    if other:
        shown = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
        return Finding("packages", "REQUIRED", f"not as locked: {shown}", "make setup")
    return Finding("packages", "ok", f"{len(wanted)}, as locked")


def _extras() -> Finding:
    lacking = [extra for extra in EXTRAS if missing(extra)]
    complete = ", ".join(extra for extra in EXTRAS if extra not in lacking) or "none"
    remedy = f"for more: pip install 'semore[{','.join(lacking)}]', or some of these" if lacking else ""
    return Finding("packages", "ok", f"installed as a library, with the extras {complete}", remedy)


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """The features that torch's and numba's speed rests on."""
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    ours, every = cores(), os.cpu_count()
    found = f"{ours} cores" if ours == every else f"{ours} of {every} cores (the others are not for this process)"
    if "avx2" not in flags:
        return Finding("processor", "warning", f"{found}, no AVX2", "everything runs, several times slower than stated")
    fast = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    bf16 = {"avx512_bf16", "amx_bf16"} & flags
    hint = "" if bf16 else "no bf16: updates take about twice as long as where there is"
    return Finding("processor", "ok", f"{found}, {' '.join(fast)}", hint)


def gpu() -> Finding:
    if find_spec("torch") is None:
        return absent("GPU", "for training", "pip install 'semore[train]'", "torch is not installed")
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return Finding("GPU", "ok", f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")
    return absent(
        "GPU", "for CARLA, Qwen2-VL and preset paper; laptop and debug need none",
        "an NVIDIA driver (`nvidia-smi`) and a CUDA build of torch", f"torch {torch.__version__} sees none",
    )  # fmt: skip


def memory() -> Finding:
    available = psutil.virtual_memory().available / GIB
    if available >= MEMORY:
        return Finding("memory", "ok", f"{available:.1f} GiB available")
    remedy = f"{MEMORY:g} GiB are comfortable: close something, or lower --replay.pool_frames and --workers"
    return Finding("memory", "warning", f"{available:.1f} GiB available", remedy)


def disk(data: Path) -> Finding:
    folder = next(parent for parent in (data.absolute(), *data.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free / GIB
    if free >= DISK:
        return Finding("disk", "ok", f"{free:.1f} GiB free for {data}")
    remedy = f"preset laptop needs {DISK:g} GiB: free some, or choose another --data folder"
    return Finding("disk", "REQUIRED", f"{free:.1f} GiB free for {data}", remedy)


def carla_client() -> Finding:
    try:
        version = metadata.version("carla")
    except metadata.PackageNotFoundError:
        return absent("CARLA client", "for simulator carla", "make setup SIM=carla")
    verdict = fitness.versions(version, CARLA_VERSION)
    return Finding("CARLA client", "ok" if verdict.fit else "warning", version, verdict.remark)


def carla_server(settings: CarlaSettings, port: int) -> Finding:
    what, where = "CARLA server", f"{settings.host}:{port}"
    found = identity(settings.host, port, 3.0)
    if found is None:
        remedy = "start one or give --carla.command (docs/carla.md)"
        return absent(what, "for simulator carla", remedy, f"nothing answers at {where}")
    verdict = fitness.server(found, settings.host)
    if not verdict.fit:
        return Finding(what, "warning", f"{found.version} at {where}", verdict.remark)
    pictures = "Unreal's" if found.renderer == "unreal" else f"a loopback server's ({found.renderer})"
    return Finding(what, "ok", f"{found.version} at {where}, pictures {pictures}", verdict.remark)


def model(name: str) -> Finding:
    """A checkpoint file, a model folder with configuration and weights, or a model hub id as downloaded before."""
    path = Path(name)
    if path.is_file():
        return Finding("model", "ok", f"{path}, {path.stat().st_size / GIB:.2f} GiB")
    if not path.is_dir():
        cached = _downloaded(name) if name.count("/") == 1 else None
        if not isinstance(cached, str):
            remedy = "--models names your own folders or files (docs/annotate.md)"
            found = f"{name} is not installed: neither here nor downloaded"
            return absent("model", "for describer qwen2-vl and segmenter clipseg or cris", remedy, found)
        path = Path(cached).parent
    weights = [file for pattern in ("*.safetensors", "*.bin", "*.pth") for file in path.glob(pattern)]
    lacks = [] if (path / "config.json").exists() else ["config.json"]
    lacks += [] if weights else ["weights (*.safetensors)"]
    if lacks:
        remedy = "the download is incomplete: fetch it again"
        return Finding("model", "warning", f"{path} without {' and '.join(lacks)}", remedy)
    return Finding("model", "ok", f"{path}, {sum(file.stat().st_size for file in weights) / GIB:.2f} GiB of weights")


def _downloaded(name: str) -> object:
    """The path of a hub model's config.json as downloaded before; anything else than a string: there is none."""
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    return try_to_load_from_cache(name, "config.json")


def dask(scheduler: str) -> Finding:
    if scheduler in ("", "none", "local"):
        here = command("annotate", {"scheduler": "local"})
        return absent("Dask scheduler", "for a cluster", f"`{here}` needs none; name one by --scheduler", "none named")
    address = scheduler
    try:
        if Path(scheduler).is_file():
            from semore.annotate.scheduling.dask_executor import scheduler_at

            address = scheduler_at(scheduler)["address"]
        parts = urlsplit(address)
        socket.create_connection((parts.hostname or "", parts.port or 8786), 3.0).close()
    except (OSError, ValueError) as error:
        remedy = "start one: .venv/bin/dask scheduler (docs/annotate.md)"
        return Finding("Dask scheduler", "warning", f"{address} does not answer ({error})", remedy)
    return Finding("Dask scheduler", "ok", address)


def examine(settings: DoctorSettings) -> Iterator[Finding]:
    """Every finding, in the order shown."""
    yield python()
    yield system()
    yield packages(checkout())
    yield processor()
    yield gpu()
    yield memory()
    yield disk(Path(settings.data))
    yield carla_client()
    for port in settings.carla.ports():
        yield carla_server(settings.carla, port)
    for name in settings.models:
        yield model(name)
    yield dask(settings.scheduler)


def main() -> None:
    settings = read_settings(DoctorSettings, "doctor")
    lacking = []
    for finding in examine(settings):
        print(finding.line(), flush=True)
        if finding.state == "REQUIRED":
            lacking.append(finding.what)
    if lacking:
        print(f"verdict: {', '.join(lacking)} must be mended first")
        raise SystemExit(1)
    print("verdict: what is required is there")


if __name__ == "__main__":
    run_command(main)
