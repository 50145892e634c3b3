"""semore datasets list, show, validate, merge, split, card: what they tell, find, refuse and leave behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
import zarr
from tiny_rollouts import SIDE, tiny_arrays, tiny_data, tiny_episode, tiny_rollouts

from semore.datasets.__main__ import command
from semore.datasets.errors import SemoreError
from semore.datasets.rollouts.store import Rollouts


def run(*arguments: str) -> int:
    return command(arguments).execute()


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A data folder: rollouts `a` of two training and a test seed, `b` of another scenario, knowledge of `a`."""
    data = tiny_data(tmp_path_factory.mktemp("data"))
    tiny_rollouts(data / "rollouts" / "b.zarr", 3, scenario="HighWay", actors=0)
    return data


@pytest.fixture
def data(template, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(template, tmp_path / "data"))


def test_list_tells_sizes_and_what_the_knowledge_covers(template, capsys):
    assert run("list", "--data", str(template), "--json") == 0
    a, b = json.loads(capsys.readouterr().out)
    assert (a["episodes"], a["steps"], b["steps"]) == (3, 18, 6)
    assert a["splits"] == {"train": 2, "test": 1}
    assert b["scenarios"] == {"HighWay": 1}
    assert a["coverage"] == {"tiny": {"frames": 12, "masks": 1.0, "verdicts": 1.0}}
    assert b["coverage"]["tiny"]["masks"] == 0.0
    totals = [tiny_arrays(seed, 6)["reward"].sum() for seed in (0, 1, 2_000_000)]
    assert a["reward"][0] == pytest.approx(sum(totals) / 3, abs=1e-5)
    files = [path for path in (template / "rollouts" / "a.zarr").rglob("*") if path.is_file()]
    assert a["bytes"] == sum(path.stat().st_size for path in files)
    assert run("list", "--data", str(template)) == 0
    said = capsys.readouterr().out
    assert "100.0%" in said
    assert "HighWay" in said


def test_list_works_beside_damage_and_without_knowledge(data, capsys):
    shutil.rmtree(data / "knowledge")
    (data / "rollouts" / "a.zarr" / "jaywalk-0000001" / "zarr.json").write_text("{")
    assert run("list", "--data", str(data)) == 0
    said = capsys.readouterr().out
    assert "no knowledge set yet" in said
    assert "a: 1 more cannot be read" in said


def test_show_lists_episodes_or_the_arrays_of_one(template, capsys):
    assert run("show", "a", "--data", str(template), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["episode"] for row in report["rows"]] == ["jaywalk-0000000", "jaywalk-0000001", "jaywalk-2000000"]
    assert report["rows"][0]["coverage"]["tiny"]["frames"] == 4
    assert run("show", "a", "jaywalk-0000001", "--data", str(template)) == 0
    said = capsys.readouterr().out
    assert f"7 × {SIDE} × {SIDE} × 3" in said
    assert "policy: random" in said
    with pytest.raises(SemoreError, match=r"under .* there is: a, b"):
        run("show", "c", "--data", str(template))


def attribute(path: Path, **changes: object) -> None:
    content = json.loads((path / "zarr.json").read_text())
    content["attributes"] |= changes
    content["attributes"] = {key: value for key, value in content["attributes"].items() if value is not None}
    (path / "zarr.json").write_text(json.dumps(content))


def flip(episode: Path) -> None:
    zarr.open_group(episode, mode="r+")["rgb"][2, 0, 0, 0] ^= 1


def relabel(episode: Path) -> None:
    """Consistent for the checksum, wrong for the frame."""
    rollouts, arrays = Rollouts(episode.parent), tiny_arrays(0, 6)
    about = dict(rollouts.episode(episode.name).attributes)
    shutil.rmtree(episode)
    arrays["digest"] = arrays["digest"] ^ np.uint8(np.arange(7)[:, None] == 3)
    rollouts.write(episode.name, arrays, about)


def diverge(episode: Path) -> None:
    """An action that is no number, recorded whole."""
    rollouts, arrays = Rollouts(episode.parent), tiny_arrays(0, 6)
    about = dict(rollouts.episode(episode.name).attributes)
    shutil.rmtree(episode)
    arrays["action"][4, 1] = np.nan
    rollouts.write(episode.name, arrays, about)


DAMAGES = {
    "torn chunk": (lambda e: (e / "rgb" / "c" / "0" / "0" / "0" / "0").write_bytes(b"torn"), "is damaged"),
    "missing chunk": (lambda e: shutil.rmtree(e / "semantic" / "c"), "missing chunks"),
    "wrong bytes": (flip, "checksum"),
    "wrong digest": (relabel, "digest of 1 frames, first 3"),
    "no number": (diverge, "action of 1 steps, first 4, is no finite number"),
    "missing array": (lambda e: shutil.rmtree(e / "ego"), "arrays ego are missing"),
    "foreign array": (lambda e: shutil.copytree(e / "ego", e / "egg"), "arrays egg are not in schema"),
    "other dtype": (lambda e: retype(e / "speed"), "array speed is float64 6, the schema says float32 6"),
    "torn attributes": (lambda e: (e / "zarr.json").write_text("{"), "not a recorded episode"),
    "schema of another time": (lambda e: attribute(e, schema_version=1), "schema version 1"),
    "missing attribute": (lambda e: attribute(e, policy=None), "attributes policy are missing"),
    "wrong split": (lambda e: attribute(e, split="test"), "split is test, but seed 0 is train"),
    "wrong total": (lambda e: attribute(e, total_reward=99.0), "total_reward is 99.000, the rewards sum to"),
}


def retype(array: Path) -> None:
    values = zarr.open_array(array, mode="r")[:]
    shutil.rmtree(array)
    zarr.create_array(array, data=values.astype("float64"))


@pytest.mark.parametrize("what", DAMAGES)
def test_validate_finds_the_damage_and_says_the_remedy(data, what, capsys):
    damage, expected = DAMAGES[what]
    episode = data / "rollouts" / "a.zarr" / "jaywalk-0000000"
    damage(episode)
    assert run("validate", "a", "--data", str(data), "--json") == 1
    findings = json.loads(capsys.readouterr().out)
    assert {each["path"] for each in findings} == {str(episode)}
    assert expected in " ".join(each["problem"] for each in findings)
    remedy = "read it with the code that wrote it" if "another time" in what else "collect again with --rollouts "
    assert all(remedy in each["remedy"] for each in findings)
    assert run("validate", "b", "--data", str(data)) == 0


def test_validate_passes_what_is_sound_and_refuses_what_is_no_rollouts(data, capsys):
    assert run("validate", "--data", str(data)) == 0
    assert capsys.readouterr().out.count("all sound") == 2
    (data / "rollouts" / "a.zarr" / "zarr.json").write_text('{"attributes": {"format": "other"}}')
    assert run("validate", "a", "b", "--data", str(data)) == 1
    assert "not of Semore rollouts" in capsys.readouterr().out


def test_validate_finds_a_camera_unlike_the_others(data, capsys):
    tiny_episode(Rollouts(data / "rollouts" / "a.zarr"), 5, camera=8)
    assert run("validate", "a", "--data", str(data)) == 1
    said = capsys.readouterr().out
    assert "camera is 8, most of the folder have 16" in said
    assert "jaywalk-0000005" in said


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_merge_links_every_byte_and_can_be_repeated(data, capsys):
    a, b = data / "rollouts" / "a.zarr", data / "rollouts" / "b.zarr"
    assert run("merge", "all", "a", "b", "--data", str(data)) == 0
    target = data / "rollouts" / "all.zarr"
    assert files(target) == files(a) | files(b)
    one = "jaywalk-0000000/rgb/c/0/0/0/0"
    assert (target / one).samefile(a / one)
    capsys.readouterr()
    (target / ".tmp-1-jaywalk-0000009").mkdir()  # of a run that was killed
    assert run("merge", "all", "a", "b", "--data", str(data), "--json") == 0
    assert json.loads(capsys.readouterr().out)["added"] == 0
    assert not (target / ".tmp-1-jaywalk-0000009").exists()
    assert run("merge", "copies", "a", "--copy", "--data", str(data)) == 0
    assert not (data / "rollouts" / "copies.zarr" / one).samefile(a / one)
    assert run("validate", "all", "copies", "--data", str(data)) == 0


def test_merge_refuses_equal_names_that_differ_before_writing(data):
    other = tiny_rollouts(data / "rollouts" / "other.zarr", 7)
    tiny_episode(other, 0, steps=4)
    with pytest.raises(SemoreError, match="same name but differ"):
        run("merge", "all", "a", "other", "--data", str(data))
    assert Rollouts(data / "rollouts" / "all.zarr").names() == []
    tiny_rollouts(data / "rollouts" / "small.zarr", 8, camera=8)
    with pytest.raises(SemoreError, match="cannot share a folder"):
        run("merge", "all", "a", "small", "--data", str(data))
    with pytest.raises(SemoreError, match="name the folders"):
        run("merge", "all", "--data", str(data))


def test_split_by_attribute_and_by_fraction(data):
    rollouts = data / "rollouts"
    assert run("split", "a", "--data", str(data)) == 0
    assert Rollouts(rollouts / "a-train.zarr").names() == ["jaywalk-0000000", "jaywalk-0000001"]
    assert Rollouts(rollouts / "a-test.zarr").names() == ["jaywalk-2000000"]
    assert run("split", "a", "--by", "fraction", "--fraction", "0.67", "--data", str(data)) == 0
    first, rest = (set(Rollouts(rollouts / f"a-{part}.zarr").names()) for part in ("first", "rest"))
    assert (len(first), len(rest), first & rest) == (2, 1, set())
    assert run("merge", "mixed", "a", "b", "--data", str(data)) == 0
    assert run("split", "mixed", "--by", "scenario", "--data", str(data)) == 0
    assert Rollouts(rollouts / "mixed-HighWay.zarr").names() == ["highway-0000003"]
    with pytest.raises(SemoreError, match="no attribute 'colour'"):
        run("split", "a", "--by", "colour", "--data", str(data))
    with pytest.raises(SemoreError, match="between 0 and 1"):
        run("split", "a", "--by", "fraction", "--fraction", "1.5", "--data", str(data))


def test_the_card_says_what_there_is(data):
    assert run("card", "--data", str(data), "--license", "cc-by-4.0") == 0
    _, front, text = (data / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "cc-by-4.0"
    assert yaml.safe_load(front)["size_categories"] == ["n<1K"]
    assert "4 episodes, 28 frames" in text
    assert Rollouts(data / "rollouts" / "a.zarr").fingerprint() in text
    assert "| tiny | a | 12 | 100.0% | 100.0% |" in text


def test_the_command_line_stays_light():
    """Nobody who asks for a list waits for the libraries of the exports."""
    heavy = ("minari", "pyarrow", "rerun", "huggingface_hub", "torch", "PIL")
    code = f"import sys, semore.datasets.__main__; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
