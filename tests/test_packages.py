"""Our top-level package names are common words: nobody else may bring them, and libraries must live beside them."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("collect", "annotate", "datasets", "train", "evaluate")
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


def lock() -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines())
    pins = dict(line.split("==") for line in lines if "==" in line)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}


def test_no_other_distribution_brings_our_names():
    providers = metadata.packages_distributions()
    assert {stage: providers[stage] for stage in STAGES if set(providers.get(stage, [])) - {"semore"}} == {}
    for distribution in metadata.distributions():
        if distribution.name != "semore":
            top = {str(file).partition("/")[0].removesuffix(".py") for file in distribution.files or ()}
            assert not top & set(STAGES), distribution.name


def test_libraries_and_stages_live_in_one_process(tmp_path):
    """From another folder, with the libraries first: they probe for packages such as Hugging Face's `datasets`."""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:semore", "-c", SIDE_BY_SIDE, *STAGES],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *ours, theirs = done.stdout.splitlines()
    assert ours == [str(ROOT / stage) for stage in STAGES]
    assert theirs != str(ROOT)


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


def test_our_python_is_the_one_we_name():
    assert sys.version_info[:2] == (3, 11)
