"""What is advised about recordings: similar names for a mistyped one; deleting for what is damaged, and ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_rollouts import tiny_arrays, tiny_rollouts

from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.store import Rollouts
from semore.datasets.rollouts.validate import validate


def advice(read: Callable[[], object]) -> str:
    with pytest.raises(SemoreError) as error:
        read()
    return str(error.value)


def test_a_mistyped_episode_is_answered_with_those_of_a_similar_name(tmp_path):
    rollouts = tiny_rollouts(tmp_path / "r.zarr", 3, 4, 17)
    said = advice(lambda: rollouts.episode("Jaywalk-000003"))
    assert "r.zarr has no episode 'Jaywalk-000003'; did you mean jaywalk-0000003, " in said
    assert "it has 3: jaywalk-0000003 … jaywalk-0000017" in said
    assert advice(lambda: rollouts.episode("x")).endswith("no episode 'x'; it has 3: jaywalk-0000003 … jaywalk-0000017")
    assert "did you mean r?" in advice(lambda: Rollouts(tmp_path / "R.zarr").episode("x"))
    assert "none: record it: `semore collect --rollouts " in advice(
        lambda: tiny_rollouts(tmp_path / "n.zarr").episode("x")
    )
    assert "delete" not in said


def edit(group: Path, **attributes: Any) -> None:
    meta = json.loads((group / "zarr.json").read_text())
    meta["attributes"] |= attributes
    (group / "zarr.json").write_text(json.dumps(meta))


def torn(folder: Path) -> None:
    (folder / "zarr.json").write_text("{")


def incomplete(folder: Path) -> None:
    edit(folder, complete=False)


def chunkless(folder: Path) -> None:
    shutil.rmtree(folder / "rgb" / "c")


def changed(folder: Path) -> None:
    edit(folder, checksum="0")


@pytest.mark.parametrize("damage", [torn, incomplete, chunkless, changed])
def test_only_a_damaged_episode_of_ours_is_advised_to_be_deleted(tmp_path, damage):
    ours = tiny_rollouts(tmp_path / "r.zarr", 3)
    ours.write("bend-by-night", tiny_arrays(1, 6), {"policy": "me"})
    grown = tiny_rollouts(tmp_path / "runs" / "mine" / "refresh.zarr", 500_000)
    said = []
    for rollouts, name in ((ours, "jaywalk-0000003"), (ours, "bend-by-night"), (grown, "jaywalk-0500000")):
        damage(rollouts.path / name)
        said.append(advice(lambda rollouts=rollouts, name=name: rollouts.episode(name).verify()))
        assert str(rollouts.path / name) in said[-1]
    assert "what it was recorded with (only this episode is recorded anew), or restore" in said[0]
    assert "restore it from a copy, or move it elsewhere" in said[1]
    assert f"the training run {grown.path.parent}, which has to be trained anew: --run NAME" in said[2]
    assert "delete" not in said[1] + said[2]


def test_nobody_else_s_recording_is_deleted_for_a_name_like_ours(tmp_path):
    rollouts = tiny_rollouts(tmp_path / "r.zarr")
    rollouts.write("bend-0000001", tiny_arrays(1, 6), {"policy": "me"})
    chunkless(rollouts.path / "bend-0000001")
    assert "delete" not in advice(rollouts.episode("bend-0000001").verify)


def test_validate_advises_as_the_errors_do(tmp_path):
    rollouts = tiny_rollouts(tmp_path / "r.zarr", 3, 4, 5)
    rollouts.write("bend-by-night", tiny_arrays(1, 6), {"policy": "me"})
    changed(rollouts.path / "jaywalk-0000003")
    torn(rollouts.path / "jaywalk-0000004")
    edit(rollouts.path / "jaywalk-0000005", schema_version=1)
    found = {Path(each.path).name: each for each in validate(rollouts.path)}
    assert len(found) == 4
    assert "attributes scenario, weather" in found["bend-by-night"].problem
    assert found["bend-by-night"].remedy == "add them to the attributes in its zarr.json (docs/formats.md)"
    for name in ("jaywalk-0000003", "jaywalk-0000004"):
        assert found[name].remedy.startswith(f"delete this folder and collect again with --rollouts {rollouts.path} ")
    assert found["jaywalk-0000005"].remedy.startswith("record it again with this version")
