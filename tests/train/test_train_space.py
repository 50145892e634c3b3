"""A full disk: one clear error that says which file, what it takes and what is free; what was there before is whole."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from semore.datasets.atomic_io import atomic_file, exclusive_lock, write_csv, write_text
from semore.datasets.errors import SemoreError
from semore.datasets.run_command import run_command
from semore.evaluate.film import video
from semore.train.agent import Agent
from semore.train.agent_settings import AgentSettings
from semore.train.checkpoint import export_policy, read_checkpoint, save_checkpoint
from semore.train.encoder import EncoderSettings
from semore.train.log import MetricsFile

SMALL = AgentSettings(EncoderSettings(size=32, channels=(4, 8, 8, 8), heads=2, latent=8), hidden=16, model_hidden=16)


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The kernel refuses to let any file of this process grow beyond `size` bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full(path: Path) -> Path:
    """A file on a full disk: opening works, writing is ENOSPC."""
    path.symlink_to("/dev/full")
    return path


def test_a_checkpoint_without_room_leaves_the_one_before(tmp_path):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"identity": {}, "weights": torch.zeros(10)})
    with no_file_above(100_000), pytest.raises(SemoreError) as error:
        save_checkpoint(path, {"identity": {}, "weights": torch.zeros(10**6)})
    told = str(error.value)
    assert told.startswith(f"{path} cannot be written: no file may become so large here")
    assert "it takes 4.0 MB, and " in told
    assert " MB are free there. Make room; what was written before is whole, and the same command goes on" in told
    assert read_checkpoint(path, {})["weights"].shape == (10,)
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_policy_without_room_is_an_error_and_not_the_end_of_the_process(tmp_path, monkeypatch):
    program = torch.export.export(torch.nn.Linear(200, 200), (torch.zeros(2, 200),))  # quicker than the agent's
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: program)
    with (
        no_file_above(10_000),
        pytest.raises(SemoreError, match=r"policy\.pt2 cannot be written: .* takes 0\.\d MB"),
    ):
        export_policy(Agent(SMALL), tmp_path / "policy.pt2", {"size": 32})
    assert not list(tmp_path.iterdir())


def a_table(path: Path) -> None:
    write_csv(path, ["a"], ({"a": "x" * 1000} for _ in range(2000)))


def a_text(path: Path) -> None:
    write_text(path, "x" * 2_000_000)


def a_picture(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1000, 1000, 3), dtype=np.uint8)
    with atomic_file(path) as temporary:
        Image.fromarray(noise).save(temporary, format="png")


@pytest.mark.parametrize(
    ("write", "told"),
    [(a_table, "it takes more than 1.0 MB, and"), (a_text, "it takes more than 1.0 MB, and"), (a_picture, "")],
)
def test_other_files_say_what_they_had_taken_when_it_failed(tmp_path, write, told):
    path = tmp_path / "file"
    write_text(path, "before")
    with no_file_above(1_000_000), pytest.raises(SemoreError, match=f"^{path} cannot be written: .*; {told}"):
        write(path)
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_files_that_grow_are_named_too(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.csv", 0)
    (tmp_path / "metrics.csv").unlink()
    full(tmp_path / "metrics.csv")
    with pytest.raises(
        SemoreError, match=r"metrics\.csv cannot be written: the disk is full; [\d.,]+ MB are free there"
    ):
        metrics.log_metrics({"loss/q": 1.0}, 3)
    lock = exclusive_lock(tmp_path / "lock", "test")
    with no_file_above(0), pytest.raises(SemoreError, match="lock cannot be written: no file may become so large"):
        lock.__enter__()


def test_what_no_file_of_ours_is_about_is_one_line_as_well(tmp_path, capsys):
    def command() -> None:
        full(tmp_path / "array").write_text("x")

    with pytest.raises(SystemExit) as ended:
        run_command(command)
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(
        "error: the disk is full ([Errno 28] No space left on device). Make room;"
    )
    with pytest.raises(PermissionError):
        run_command(lambda: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))


def test_a_torn_film_is_not_taken_for_a_whole_one(tmp_path, capfd):
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(20)]
    with no_file_above(5_000), pytest.raises(SemoreError, match=r"film\.mp4 could not be written: ffmpeg says why"):
        video.save(pictures, tmp_path / "film.mp4", 10)
    assert not list(tmp_path.iterdir())
    video.save(pictures, tmp_path / "film.mp4", 10)
    assert video.whole(tmp_path / "film.mp4")
