"""What is installed: one name that nobody else brings, extras that are named when missing, and pins that hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata, util
from pathlib import Path

import pytest
from bounds import lowest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from semore import doctor
from semore.extras import EXTRAS, MissingExtra, missing, named, require

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("collect", "annotate", "datasets", "train", "evaluate")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {"PIL": "pillow", "cv2": "opencv-python-headless", "rerun": "rerun-sdk"}
"""Where a module is not called as what is installed."""
SIDE_BY_SIDE = """
import pathlib, sys
import transformers, pytorch_lightning
import semore.annotate, semore.collect, semore.datasets, semore.evaluate, semore.train
from transformers import AutoTokenizer, CLIPSegForImageSegmentation, Qwen2VLForConditionalGeneration, Trainer
from semore.datasets.rollouts.store import Rollouts
import semore.annotate.pipeline, semore.collect.env, semore.evaluate.episodes, semore.train.module
for name in sys.argv[1:]:
    print(pathlib.Path(sys.modules["semore." + name].__file__).resolve().parent)
print(pathlib.Path(transformers.__file__).resolve().parent.parent)
"""
BARE = """
import sys, pkgutil
from importlib import import_module
from semore.extras import EXTRAS
sys.modules |= dict.fromkeys(sum(EXTRAS.values(), ()))  # None: such an import fails, as where it is not installed
import semore.cli, semore.datasets
for found in pkgutil.walk_packages(semore.datasets.__path__, "semore.datasets."):
    if found.name not in ("semore.datasets.frame_pool", "semore.datasets.device"):
        import_module(found.name)
for stage in sys.argv[1:]:
    try:
        import_module("semore." + stage)
    except ImportError as error:
        print(type(error).__name__, error)
"""
DRIVING = """
import sys
import semore.collect.workers, semore.collect.env, semore.collect.gallery, semore.annotate.pipeline
print([name for name in ("torch", "transformers", "matplotlib", "dask") if name in sys.modules])
"""
COMMAND = """
import sys
sys.modules[sys.argv.pop(1)] = None
from semore.cli import main
main()
"""


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Not with the root on the path, where folders of ours would pass for libraries."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, env=environment)


def lock() -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines())
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines if "==" in line)}


def requirements(extra: str = "") -> set[str]:
    """What the bare installation or an extra names, an extra's extras included."""
    found = set()
    for line in PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]:
        requirement = Requirement(line)
        inner = requirement.extras if requirement.name == "semore" else ()
        found |= set().union(*map(requirements, inner)) if inner else {canonicalize_name(requirement.name)}
    return found


def test_no_other_distribution_brings_our_name():
    assert set(metadata.packages_distributions().get("semore", ())) <= {"semore"}


def test_a_stage_outside_semore_is_refused_in_one_line():
    """At the repository's root Python finds the folders themselves, under names that are other people's as well."""
    for stage in STAGES:
        done = python("-c", f"import {stage}", cwd=ROOT)
        assert done.returncode == 1
        said = done.stderr.splitlines()[-1]
        assert said.startswith(f"ImportError: this folder is the package semore.{stage}: import that"), done.stderr


def test_libraries_and_stages_live_in_one_process(tmp_path):
    """From another folder, with the libraries first: they probe for packages such as Hugging Face's `datasets`."""
    done = python("-W", "error::DeprecationWarning:semore", "-c", SIDE_BY_SIDE, *STAGES, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *ours, theirs = done.stdout.splitlines()
    assert ours == [str(ROOT / stage) for stage in STAGES]
    assert theirs != str(ROOT)


def test_data_are_read_without_any_extra_and_the_other_stages_name_theirs(tmp_path):
    done = python("-c", BARE, "collect", "annotate", "train", "evaluate", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 4
    # Training and evaluating fail by what they themselves need, not by the stages that they build on.
    for line, extra in zip(said, ("collect", "annotate", "train", "report"), strict=True):
        assert line.startswith("MissingExtra"), line
        assert line.endswith(f"needs the extra {extra!r}: pip install 'semore[{extra}]'"), line


def test_driving_and_planning_import_no_learning_library(tmp_path):
    done = python("-c", DRIVING, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("torch", "train", "train"),
        ("numba", "gallery", "collect"),
    ],
)
def test_the_command_says_in_one_line_what_is_missing(module, command, extra, tmp_path):
    done = python("-c", COMMAND, module, command, "--help", cwd=tmp_path)
    assert done.returncode == 1
    message = f"error: {module} is not installed; this part of Semore needs the extra {extra!r}"
    assert done.stderr == f"{message}: pip install 'semore[{extra}]'\n"


def test_a_missing_module_is_only_ours_to_explain_when_an_extra_brings_it(monkeypatch):
    assert named(ModuleNotFoundError("No module named 'nonsense'", name="nonsense")) is None
    assert named(ModuleNotFoundError("no such part", name="torch.nonsense")) is None, "torch itself is installed"
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert missing("cluster") == ["distributed"]
    with pytest.raises(MissingExtra, match=r"distributed is not installed.*'semore\[cluster\]'"):
        require("cluster")
    require("cluster", "dask")


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_table_of_extras_is_that_of_the_project(extra):
    brought = {DISTRIBUTIONS.get(module, canonicalize_name(module)) for module in EXTRAS[extra]}
    assert brought == requirements(extra)
    assert brought.isdisjoint(requirements()), "the bare installation brings it"


def test_the_bare_installation_has_no_learning_library():
    assert requirements().isdisjoint({"torch", "transformers", "numba", "gymnasium", "scipy", "matplotlib", "pillow"})


def test_torchvision_is_neither_installed_nor_locked():
    assert util.find_spec("torchvision") is None
    assert "torchvision" not in (ROOT / "requirements.lock").read_text()
    assert "torchvision" not in (ROOT / "pyproject.toml").read_text()


def test_the_lock_pins_what_is_installed():
    pins = lock()
    assert pins["torch"] == "2.13.0"
    assert metadata.version("torch").partition("+")[0] == "2.13.0"
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] not in "#-"]
    assert len(pins) == len(lines), "every line pins one version"
    assert "carla" not in pins  # an extra
    assert "datasets" not in pins
    for name in ("transformers", "zarr", "h5py", "gymnasium", "pytorch-lightning", "numba", "jsonargparse"):
        assert metadata.version(name) == pins[name]


def test_the_lock_lies_within_the_bounds_and_holds_all_that_make_uses():
    pins = lock()
    lines = PROJECT["dependencies"] + [
        line
        for extra in ("collect", "train", "annotate", "report", "cluster", "interop", "dev")
        for line in PROJECT["optional-dependencies"][extra]
    ]
    for requirement in map(Requirement, lines):
        if requirement.name != "semore":
            pinned = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(pinned), f"{requirement} is not {pinned}"


def test_every_bound_has_a_lowest_version_to_test():
    """Else tests/bounds.py would let the installer choose, and call the result the lowest."""
    pinned = {re.split("==", line)[0].lower() for line in lowest({"project": PROJECT})}
    free = {"accelerate", "bitsandbytes", "types-pyyaml"}  # a GPU's, and what only mypy reads
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    names = {Requirement(line).name.lower() for group in groups for line in group}
    assert names - pinned == free | {"semore"}


def test_our_python_is_among_those_we_name():
    assert sys.version_info[:2] == (3, 11)
    first, ended = (".".join(map(str, version)) for version in doctor.PYTHON)
    assert PROJECT["requires-python"] == f">={first},<{ended}"
