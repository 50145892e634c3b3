"""What messages say of commands and flags: commands come from `hints.command`, flags are named in full."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

from semore.annotate.__main__ import AnnotateSettings
from semore.annotate.audit.__main__ import AuditSettings
from semore.annotate.rehearsal.__main__ import RehearsalSettings
from semore.annotate.segment.cris_tiny.__main__ import CrisTinyTraining
from semore.collect.carla.loopback.__main__ import LoopbackSettings
from semore.collect.plan import CollectSettings
from semore.datasets.__main__ import COMMANDS
from semore.datasets.command_line import setting_names
from semore.datasets.hints import TARGETS
from semore.doctor import DoctorSettings
from semore.evaluate.__main__ import EvaluateSettings
from semore.evaluate.counterfactual.__main__ import CounterfactualSettings
from semore.evaluate.film.__main__ import DemoSettings
from semore.evaluate.report.__main__ import ReportSettings
from semore.evaluate.sweep.__main__ import SweepSettings
from semore.evaluate.view.__main__ import ViewSettings
from semore.train.settings import TrainSettings

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDERS: Final = ("collect", "annotate", "datasets", "train", "evaluate", "src")
SETTINGS: Final = (
    CollectSettings, AnnotateSettings, AuditSettings, RehearsalSettings, CrisTinyTraining, LoopbackSettings,
    DoctorSettings, EvaluateSettings, CounterfactualSettings, DemoSettings, ReportSettings, SweepSettings, ViewSettings,
    TrainSettings, *COMMANDS.values(),
)  # fmt: skip
FOREIGN: Final = ("datasets/provenance.py", "collect/carla/fitness.py", "train/stopping.py")
"""They name flags of git, Docker and Slurm."""


@cache
def texts() -> list[tuple[str, str]]:
    """(file, text) of all strings of the code; docstrings explain, nobody follows them."""
    found = []
    for file in (file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        documented = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        found += [
            (str(file.relative_to(ROOT)), node.value) for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented
        ]  # fmt: skip
    return found


def test_no_message_names_a_command_by_hand():
    """`hints.command` knows how the user called us, and which names have to go along. What a file says of who wrote it,
    what is asked for help, and what has no names to go along, is said by hand."""
    by_hand = re.compile(rf"make ({'|'.join(TARGETS)})\b|`semore ")
    allowed = ("Written by `semore", "`semore train --help`", "Record with `semore collect`", "`semore datasets merge ")
    own = ("src/semore/cli.py", "datasets/__main__.py", "datasets/interop/card.py")
    told = [(file, text) for file, text in texts() if by_hand.search(text) and file not in own]
    assert [each for each in told if not any(words in each[1] for words in allowed)] == []


def test_messages_name_flags_in_full():
    known = {name for settings in SETTINGS for name in setting_names(settings)} | {"help", "config", "print_config"}
    flag = re.compile(r"(?<![\w-])--([a-z_][\w.]*\w)")
    named = [(file, name) for file, text in texts() for name in flag.findall(text)]
    assert len(named) > 50
    assert [each for each in named if each[1] not in known and each[0] not in FOREIGN] == []
