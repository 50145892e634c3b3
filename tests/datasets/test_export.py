"""Exports and the hub: what others read back equals the rollouts."""

from __future__ import annotations

import io
import json
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import minari
import numpy as np
import pytest
from PIL import Image
from tiny_rollouts import SIDE, WHO, tiny_data, tiny_knowledge, tiny_rollouts

from semore.datasets.__main__ import command
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.annotations import read_annotations
from semore.datasets.knowledge.cache import KnowledgeCache, SetManifest, ensure_set, open_set
from semore.datasets.rollouts.schema import FRAME_ARRAYS, STEP_ARRAYS
from semore.datasets.rollouts.store import Episode, Rollouts

NAME = "semore/tiny-v0"


def run(*arguments: str) -> int:
    return command(arguments).execute()


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    data = tiny_data(tmp_path_factory.mktemp("data"))
    tiny_rollouts(data / "rollouts" / "lonely.zarr", 4, actors=0)
    return data


@pytest.fixture
def data(template, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return Path(shutil.copytree(template, tmp_path / "data"))


def episodes(data: Path, name: str = "a") -> list[Episode]:
    return list(Rollouts(data / "rollouts" / f"{name}.zarr").episodes())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Minari


def test_minari_reads_back_what_was_recorded(data):
    assert run("export", "a", "--to", NAME, "--data", str(data)) == 0
    dataset = minari.load_dataset(NAME)
    assert (dataset.total_episodes, dataset.total_steps) == (3, 18)
    assert dataset.observation_space.shape == (SIDE, SIDE, 3)
    for ours, theirs in zip(episodes(data), dataset.iterate_episodes(), strict=True):
        arrays = ours.read(*FRAME_ARRAYS, *STEP_ARRAYS)
        standard = {
            "rgb": theirs.observations, "action": theirs.actions, "reward": theirs.rewards,
            "terminated": theirs.terminations, "truncated": theirs.truncations,
        }  # fmt: skip
        for name, found in standard.items():
            np.testing.assert_array_equal(found, arrays[name], strict=True)
        for name in ("semantic", "instance", "actors", "ego", "digest", "state_digest"):
            np.testing.assert_array_equal(theirs.infos[name], arrays[name], strict=True)
        for name in ("speed", "progress", "impulse"):
            np.testing.assert_array_equal(theirs.infos[name][1:], arrays[name], strict=True)
            assert theirs.infos[name][0] == 0
        rows = ours.decision_rows
        assert theirs.infos["h_ka_valid"][rows].all()
        assert theirs.infos["h_ka_valid"].sum() == len(rows)
        assert (theirs.infos["h_ka"][rows, :2] == 255).all()
        assert dataset.observation_space.contains(theirs.observations[0])


def test_a_minari_export_comes_back_byte_for_byte(data, capsys):
    for name in ("a", "lonely"):  # with and without knowledge and actors
        assert run("export", name, "--data", str(data)) == 0
        assert run("import", f"semore/{name}-v0", f"{name}-back", "--data", str(data)) == 0
        back = data / "rollouts" / f"{name}-back.zarr"
        assert files(back) == files(data / "rollouts" / f"{name}.zarr")
        assert run("import", f"semore/{name}-v0", f"{name}-back", "--data", str(data)) == 0  # again: nothing to do
    assert "without masks: no knowledge set covers them" in capsys.readouterr().out


def test_an_export_takes_the_default_set_of_several_and_says_so(data, capsys):
    rollouts = Rollouts(data / "rollouts" / "a.zarr")
    tiny_knowledge(data / "knowledge", rollouts, "zebra")
    with pytest.raises(SemoreError, match="tiny, zebra; none of them is the default"):
        run("export", "a", "--to", NAME, "--data", str(data))
    tiny_knowledge(data / "knowledge", rollouts, "privileged-cris-tiny")
    assert run("export", "a", "--to", NAME, "--data", str(data), "--json") == 0
    assert json.loads(capsys.readouterr().out)["knowledge"] == "privileged-cris-tiny"
    assert run("export", "a", "--to", "semore/named-v0", "--knowledge", "zebra", "--data", str(data)) == 0
    assert "with the masks of knowledge set zebra" in capsys.readouterr().out


def test_minari_exports_are_refused_or_begun_anew(data, tmp_path):
    assert run("export", "a", "--to", NAME, "--data", str(data)) == 0
    with pytest.raises(SemoreError, match="exists; choose another --to"):
        run("export", "a", "--to", NAME, "--data", str(data))
    (tmp_path / "minari" / NAME / ".unfinished").touch()  # as a killed export leaves it
    assert run("export", "a", "--to", NAME, "--episode", "jaywalk-0000001", "--data", str(data)) == 0
    assert minari.load_dataset(NAME).total_episodes == 1
    with pytest.raises(SemoreError, match="is no Minari name"):
        run("export", "a", "--to", "tiny", "--data", str(data))


def test_a_minari_dataset_from_elsewhere_is_refused_with_what_it_lacks(data):
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer

    with pytest.raises(SemoreError, match=r"no local Minari dataset 'other-v0'"):
        run("import", "other-v0", "other", "--data", str(data))
    buffer = EpisodeBuffer(
        observations=np.zeros((3, 4), np.float32), actions=np.zeros((2, 2), np.float32), rewards=[0.0, 0.0],
        terminations=[False, True], truncations=[False, False], infos={},
    )  # fmt: skip
    spaces = {"observation_space": Box(-1, 1, (4,)), "action_space": Box(-1, 1, (2,))}
    with pytest.warns(UserWarning, match="set to None"):
        minari.create_dataset_from_buffers("other-v0", [buffer], **spaces)
    with pytest.raises(SemoreError, match=r"infos/semantic, infos/instance.*semore_attributes"):
        run("import", "other-v0", "other", "--data", str(data))


def test_a_minari_dataset_that_was_changed_is_refused(data, tmp_path):
    import h5py

    assert run("export", "a", "--to", NAME, "--data", str(data)) == 0
    with h5py.File(tmp_path / "minari" / NAME / "data" / "main_data.hdf5", "r+") as file:
        file["episode_1/rewards"][2] += 1
    with pytest.raises(SemoreError, match=r"episode 1 \(jaywalk-0000001\).*was changed after the export"):
        run("import", NAME, "back", "--data", str(data))


def test_a_disk_too_small_is_told_before(data, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 999, 1))
    with pytest.raises(SemoreError, match="set MINARI_DATASETS_PATH"):
        run("export", "a", "--data", str(data))


# LeRobot and rerun: libraries of the extra `export`


def test_without_the_extra_the_message_says_how_to_get_it(data, monkeypatch):
    import sys

    for module in ("pyarrow", "rerun"):
        monkeypatch.setitem(sys.modules, module, None)
    for name in ("lerobot", "rerun"):
        with pytest.raises(SemoreError, match=r"pip install 'semore\[export\]'"):
            run("export", "a", "--format", name, "--data", str(data))


def test_lerobot_files_follow_version_3(data):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra `export` (requirements-export.lock)")
    assert run("export", "a", "--format", "lerobot", "--data", str(data)) == 0
    root = data / "exports" / "a-lerobot"
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"]) == ("v3.0", 20)
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 18, 1)
    table = parquet.read_table(root / info["data_path"].format(chunk_index=0, file_index=0))
    assert set(table.column_names) == set(info["features"])
    assert table["index"].to_pylist() == list(range(18))
    assert table["episode_index"].to_pylist() == [0] * 6 + [1] * 6 + [2] * 6
    knowledge = open_set(data / "knowledge", "tiny")
    for number, episode in enumerate(episodes(data)):
        arrays = episode.read("rgb", "action", "reward", "terminated")
        known = read_annotations(episode, np.arange(episode.steps), knowledge)
        own = table.slice(6 * number, 6).to_pydict()
        for row in range(6):
            assert (_picture(own["observation.images.front"][row]) == arrays["rgb"][row]).all()
            assert (_picture(own["observation.images.h_ka"][row]) == known.masks[row]).all()
        assert own["observation.h_ka_valid"] == known.valid.tolist()
        np.testing.assert_array_equal(np.float32(own["action"]), arrays["action"])
        np.testing.assert_array_equal(np.float32(own["next.reward"]), arrays["reward"])
        assert own["next.done"] == arrays["terminated"].tolist()
    rows = parquet.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in rows] == [(0, 6), (6, 12), (12, 18)]
    assert rows[0]["tasks"] == ["drive JayWalk in hard_high_light"]
    stats = json.loads((root / "meta/stats.json").read_text())
    actions = np.concatenate([episode.read("action")["action"] for episode in episodes(data)])
    for key, expected in (("mean", actions.mean(0)), ("std", actions.std(0)), ("max", actions.max(0))):
        np.testing.assert_allclose(stats["action"][key], expected, rtol=1e-5)
    assert np.shape(stats["observation.images.front"]["mean"]) == (3, 1, 1)
    with pytest.raises(SemoreError, match="exists; choose another --to"):
        run("export", "a", "--format", "lerobot", "--data", str(data))


def test_lerobot_starts_a_new_file_when_one_is_full(data, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra `export` (requirements-export.lock)")
    from semore.datasets.interop import lerobot as lerobot_export

    monkeypatch.setattr(lerobot_export, "FILE_MB", 0)
    lerobot_export.export_lerobot(episodes(data), data / "many")
    for number in range(3):
        table = parquet.read_table(data / f"many/data/chunk-000/file-{number:03d}.parquet")
        assert set(table["episode_index"].to_pylist()) == {number}
    rows = parquet.read_table(data / "many/meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [row["data/file_index"] for row in rows] == [0, 1, 2]


def _picture(cell: dict[str, Any]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(cell["bytes"])))


def test_a_rerun_recording_holds_pictures_curves_and_phrases(data):
    pytest.importorskip("rerun", reason="needs the extra `export` (requirements-export.lock)")
    from rerun.chunk import RrdReader

    assert run("export", "a", "--format", "rerun", "--data", str(data)) == 0
    path = data / "exports" / "jaywalk-0000000.rrd"
    held = {chunk.entity_path for chunk in RrdReader(path).stream()}
    assert {"/camera/rgb", "/camera/h_ka", "/camera/semantic", "/phrases", "/verdict", "/speed", "/about"} <= held


# The hub


class Hub:
    """A hub that is a folder: the client's calls that we make, with its rules for patterns."""

    endpoint = "http://hub.invalid"

    def __init__(self, root: Path) -> None:
        self.root, self.made = root, dict[str, Any]()

    def __call__(self) -> Hub:
        return self

    def create_repo(self, repo_id: str, **options: Any) -> None:
        self.made[repo_id] = options

    def upload_folder(
        self, *, repo_id: str, folder_path: str, allow_patterns: list[str], ignore_patterns: list[str], **_: Any
    ) -> str:
        for name, content in files(Path(folder_path)).items():
            asked = any(fnmatch(name, pattern) for pattern in allow_patterns)
            if asked and not any(fnmatch(name, pattern) for pattern in ignore_patterns):
                (self.root / repo_id / name).parent.mkdir(parents=True, exist_ok=True)
                (self.root / repo_id / name).write_bytes(content)
        return "commit"

    def snapshot_download(self, repo_id: str, *, local_dir: Path, allow_patterns: list[str], **_: Any) -> None:
        if repo_id not in self.made:
            raise OSError(f"404: {repo_id}")
        for name, content in files(self.root / repo_id).items():
            if any(fnmatch(name, pattern) for pattern in allow_patterns) and not (local_dir / name).exists():
                (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
                (local_dir / name).write_bytes(content)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", made)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


def test_what_is_pushed_is_what_is_pulled(data, hub, tmp_path, capsys):
    with pytest.raises(SemoreError, match="semore datasets card"):
        run("push", "me/roads", "--data", str(data))
    assert run("card", "--data", str(data)) == 0
    (data / "rollouts" / "a.zarr" / ".tmp-1-x").mkdir()
    (data / "rollouts" / "a.zarr" / ".tmp-1-x" / "torn").touch()
    assert run("push", "me/roads", "a", "--knowledge", "--data", str(data)) == 0
    assert hub.made["me/roads"]["private"] is True
    shared = files(tmp_path / "hub" / "me" / "roads")
    assert not [name for name in shared if ".tmp" in name or "lonely" in name or name.endswith((".lock", ".npz"))]
    other = tmp_path / "other"
    (other / "rollouts").mkdir(parents=True)
    assert run("pull", "me/roads", "--knowledge", "--data", str(other)) == 0
    assert "a: 3 episodes are new, all of them sound" in capsys.readouterr().out
    shutil.rmtree(data / "rollouts" / "a.zarr" / ".tmp-1-x")
    assert files(other / "rollouts" / "a.zarr") == files(data / "rollouts" / "a.zarr")
    episode = episodes(other)[0]
    known = read_annotations(episode, episode.decision_rows, open_set(other / "knowledge", "tiny"))
    assert known.valid.all()
    assert run("pull", "me/roads", "--knowledge", "--data", str(other)) == 0  # again: nothing is new
    assert "a: 0 episodes are new" in capsys.readouterr().out


def test_pull_keeps_damage_and_other_sets_out(data, hub, tmp_path):
    assert run("card", "--data", str(data)) == 0
    assert run("push", "me/roads", "a", "--knowledge", "--data", str(data)) == 0
    torn = tmp_path / "hub/me/roads/rollouts/a.zarr/jaywalk-0000001/reward/c/0"
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-3])
    other = tmp_path / "other"
    with pytest.raises(SemoreError, match="only it is fetched anew"):
        run("pull", "me/roads", "--data", str(other))
    assert Rollouts(other / "rollouts" / "a.zarr").names() == []
    torn.write_bytes(whole)
    shutil.rmtree(other / "pulled" / "me--roads" / "rollouts" / "a.zarr" / "jaywalk-0000001")
    ensure_set(KnowledgeCache(other / "knowledge"), "tiny", SetManifest(WHO, WHO, None))
    with pytest.raises(SemoreError, match="different sets of one name"):
        run("pull", "me/roads", "--knowledge", "--data", str(other))
    assert Rollouts(other / "rollouts" / "a.zarr").names() == [each.name for each in episodes(data)]


def test_a_hub_that_refuses_is_one_readable_line(data, hub):
    with pytest.raises(SemoreError, match=r"cannot pull from me/nothing at http://hub.invalid .*404"):
        run("pull", "me/nothing", "--data", str(data))
