"""Does Semore run at both ends of the versions that pyproject.toml allows?

`.venv/bin/python tests/bounds.py lowest FOLDER`, or newest.

Makes a virtual environment with the lowest or with the newest version of everything Semore names itself (what those
bring along is the installer's choice), installs the wheel there, and runs a quick part of the suite against it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
EVERYTHING: Final = "all,dev"
QUICK: Final[Mapping[str, tuple[str, ...]]] = {
    "": (
        "datasets/test_rollouts.py",
        "datasets/test_knowledge_cache.py",
        "datasets/test_knowledge_records.py",
        "datasets/test_admin_verify.py",
        "datasets/test_admin_upkeep.py",
        "datasets/test_datasets_cli.py",
    ),
    EVERYTHING: (
        "datasets/test_frame_pool.py",
        "datasets/test_knowledge_sets.py",
        "datasets/test_export.py",
        "collect/test_env.py",
        "collect/test_embedded_world.py",
        "collect/test_embedded_pictures.py",
        "annotate/test_annotate_contracts.py",
        "annotate/test_annotate_pipeline.py",
        "annotate/test_annotate_cluster.py",
        "annotate/test_contact_sheet.py",
        "annotate/test_clipseg.py",
        "annotate/test_cris_segmenter.py",
        "annotate/test_endpoint.py",
        "annotate/test_qwen2_vl.py",
        "annotate/test_qwen2_vl_files.py",
        "train/test_agent.py",
        "train/test_train_log.py",
        "train/test_deployment.py",
        "evaluate/test_statistics.py",
        "evaluate/test_report.py",
        "evaluate/test_video.py",
        "test_settings.py",
    ),
}
"""Test files by the extras they need, over the bare installation's."""


def lowest(pyproject: Mapping[str, Any]) -> list[str]:
    """A constraint `name==version` for every bound of [project], the lowest that it allows."""
    project = pyproject["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return sorted(set(filter(None, map(_lowest, (requirement for group in groups for requirement in group)))))


def _lowest(requirement: str) -> str | None:
    wanted = requirement.partition(";")[0].strip()
    name = re.match(r"[\w.-]+", wanted)
    bound = re.search(r"[>=]=\s*([\w.]+)", wanted)
    return f"{name[0]}=={bound[1]}" if name and bound else None


def copy_checkout(copy: Path) -> None:
    """The tracked files as they are now, in a new folder: what is built there leaves nothing in the checkout, and
    finds nothing of earlier builds."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    copy.mkdir()
    packed = subprocess.run(
        ["tar", "-c", "--null", "-T", "-"], cwd=ROOT, check=True, capture_output=True, input=listed
    ).stdout
    subprocess.run(["tar", "-x", "-C", copy], check=True, input=packed)


def build_wheel(folder: Path) -> Path:
    """Semore's wheel of this checkout."""
    with TemporaryDirectory() as temporary:
        copy_checkout(Path(temporary) / "checkout")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
        subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, Path(temporary) / "checkout"], check=True)
    (wheel,) = folder.glob("semore-*.whl")
    return wheel


def make_environment(folder: Path, python: str, wheel: Path, extras: str, constraints: list[str]) -> Path:
    """A virtual environment with the wheel and its extras, or the one that is there brought up to date; its
    interpreter."""
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        subprocess.run([python, "-m", "venv", folder], check=True)
    named = folder / "constraints.txt"
    named.write_text("\n".join(constraints) + "\n")
    pip = [interpreter, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "uninstall", "-y", "semore"], check=True)
    what = f"semore{f'[{extras}]' if extras else ''} @ {wheel.as_uri()}"
    subprocess.run([*pip, "install", "--prefer-binary", "-c", named, what], check=True)
    return interpreter


def versions(interpreter: Path, names: Iterator[str]) -> list[str]:
    """What of `names` is installed, as name==version."""
    code = (
        "import sys\nfrom importlib import metadata\nfor name in sys.argv[1:]:\n"
        " try: print(f'{name}=={metadata.version(name)}')\n except metadata.PackageNotFoundError: pass"
    )
    run = subprocess.run([interpreter, "-c", code, *names], check=True, capture_output=True, text=True)
    return run.stdout.split()


def size(folder: Path) -> float:
    """MB of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("edge", choices=("lowest", "newest"))
    parser.add_argument("folder", type=Path, help="where to make the environment, several GB; kept for the next time")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to make it with")
    parser.add_argument("--extras", choices=QUICK, default=EVERYTHING, help="'' for the bare installation")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.resolve()
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    constraints = lowest(pyproject) if options.edge == "lowest" else []
    wheel = build_wheel(folder)
    started = time.monotonic()
    interpreter = make_environment(folder / "venv", options.python, wheel, options.extras, constraints)
    seconds, packages = time.monotonic() - started, folder / "venv" / "lib"
    print(f"{options.edge}, extras {options.extras or 'none'}: {seconds:.0f} s, {size(packages):.0f} MB", flush=True)
    print(*versions(interpreter, (line.partition("=")[0] for line in lowest(pyproject))), flush=True)
    raise SystemExit(run_tests(interpreter, options.extras))


def run_tests(interpreter: Path, extras: str) -> int:
    """The quick part of the suite against the installed wheel; pytest's exit code. The bare installation gets no more
    than pytest itself beside it."""
    if not extras:
        brought = ["pytest", "pytest-timeout", "hypothesis"]
        subprocess.run([interpreter, "-m", "pip", "--disable-pip-version-check", "-q", "install", *brought], check=True)
    files = [f"tests/{name}" for key in dict.fromkeys(("", extras)) for name in QUICK[key]]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pytest = [interpreter, "-m", "pytest", "-m", "not slow", "-p", "no:cacheprovider", *files]
    return subprocess.run(pytest, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    main()
