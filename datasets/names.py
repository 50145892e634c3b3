"""What rollouts, runs and knowledge sets are called when nobody names them: one rule for every command and for make.

Data of another world than the embedded one, and runs of another method than Semore, say so in their name, so that
neither is taken for the other. Scenarios may be written in any case and have one spelling in every name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from semore.datasets.presets import preset_path, read_yaml

SCENARIOS: Final = ("JayWalk", "HighBeam", "HighWay")
"""The spelling of the scenarios' names on disk (collect.scenarios defines what they are)."""
DESCRIBER: Final = "privileged"
"""The describer of annotations when none is named."""
SEGMENTER: Final = "cris-tiny"
"""The segmenter of annotations when none is named."""


def scenario_name(text: str) -> str:
    """The one spelling of a scenario's name given in any case; an unknown name as it is."""
    return next((name for name in SCENARIOS if name.lower() == text.lower()), text)


def rollouts_name(scenario: str, preset: str, simulator: str = "embedded") -> str:
    """`<scenario>-<preset>`, with the simulator behind where it is not the embedded one."""
    return _joined(scenario_name(scenario), Path(preset).stem, "" if simulator == "embedded" else simulator)


def run_name(scenario: str, preset: str, method: str = "semore", simulator: str = "embedded") -> str:
    """`<scenario>-<preset>`, with method and simulator behind where they are not Semore and the embedded one."""
    world = "" if simulator in ("", "embedded") else simulator
    return _joined(scenario_name(scenario), Path(preset).stem, "" if method == "semore" else method, world)


def knowledge_name(describer: str = DESCRIBER, segmenter: str = SEGMENTER) -> str:
    """`<describer>-<segmenter>`, once where both are called the same."""
    return "-".join(dict.fromkeys((describer, segmenter)))


def default_knowledge(preset: str = "laptop", environment: Mapping[str, str] = os.environ) -> str:
    """The knowledge set that `annotate` makes under a preset, with the producers that make's variables name in the
    environment; SemoreError as for `preset_path`."""
    content = read_yaml(preset_path(preset))
    section = (content.get("annotate") or {}) if isinstance(content, dict) else {}
    made = {
        role: environment.get(f"SEMORE_{role.upper()}") or section.get(role, fallback)
        for role, fallback in (("describer", DESCRIBER), ("segmenter", SEGMENTER))
    }
    return environment.get("SEMORE_KNOWLEDGE") or section.get("knowledge") or knowledge_name(**made)


def rollouts_path(data: str | Path, name: str, scenario: str = "", preset: str = "", simulator: str = "") -> Path:
    """The rollouts folder: `name` itself when it ends in .zarr, else `<data>/rollouts/<name>.zarr`; without a name
    what `rollouts_name` makes of the rest."""
    if name.endswith(".zarr"):
        return Path(name)
    return Path(data) / "rollouts" / f"{name or rollouts_name(scenario, preset, simulator or 'embedded')}.zarr"


def run_path(
    runs: str | Path, name: str, scenario: str, preset: str, method: str = "semore", simulator: str = "embedded"
) -> Path:
    """`<runs>/<name>`; without a name what `run_name` makes of the rest."""
    return Path(runs) / (name or run_name(scenario, preset, method, simulator))


def _joined(*parts: str) -> str:
    return "-".join(part for part in parts if part)
