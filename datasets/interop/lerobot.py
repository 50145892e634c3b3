"""Rollouts as a LeRobot dataset, version 3.0: parquet files with the pictures inside, and JSON beside them.

A row per simulator step: the frame, H_ka as a second picture, the car's state, the action, and what followed.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from semore.datasets.atomic_io import fsync_path, write_json
from semore.datasets.errors import SemoreError
from semore.datasets.knowledge.annotations import read_annotations
from semore.datasets.knowledge.cache import KnowledgeSet
from semore.datasets.progress import meter
from semore.datasets.rollouts.schema import DT, EGO_COLUMN
from semore.datasets.rollouts.store import Episode
from semore.extras import require

VERSION: Final = "v3.0"
CHUNK_FILES: Final = 1000
FILE_MB: Final = 100
FILES: Final = "chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
STATE: Final = ("speed", "steer", "throttle", "brake")
"""observation.state: m/s over the ground, and the control applied in the last step."""
IMAGES: Final = ("observation.images.front", "observation.images.h_ka")
STATISTICS_STRIDE: Final = 10
"""Every so many frames' pictures enter the statistics."""

Columns = Mapping[str, NDArray[Any]]


def features(side: int, masks: bool) -> dict[str, dict[str, Any]]:
    """The columns as info.json describes them."""

    def plain(dtype: str, *names: str) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [max(len(names), 1)], "names": list(names) or None}

    def picture(channels: int) -> dict[str, Any]:
        return {"dtype": "image", "shape": [side, side, channels], "names": ["height", "width", "channels"]}

    known = {IMAGES[1]: picture(1), "observation.h_ka_valid": plain("bool")} if masks else {}
    return {
        IMAGES[0]: picture(3),
        **known,
        "observation.state": plain("float32", *STATE),
        "action": plain("float32", "steer", "pedal"),
        "next.reward": plain("float32"),
        "next.done": plain("bool"),
        "next.truncated": plain("bool"),
        "timestamp": plain("float32"),
        **{name: plain("int64") for name in ("frame_index", "episode_index", "index", "task_index")},
    }


def export_lerobot(episodes: Sequence[Episode], target: Path, knowledge: KnowledgeSet | None = None) -> None:
    """Write the episodes into the new folder `target`; SemoreError when it exists or a package is missing."""
    require("export", "pyarrow", "PIL")
    if target.exists():
        raise SemoreError(f"{target} exists; choose another --to, or move it away")
    temporary = target.with_name(f".tmp-{os.getpid()}-{target.name}")
    tasks = sorted({_task(episode) for episode in episodes})
    about = features(int(episodes[0].attributes["camera"]), knowledge is not None)
    try:
        writer = _Writer(temporary, about)
        with meter(f"export {target.name}", len(episodes), "episodes") as progress:
            for episode in episodes:
                writer.add(_columns(episode, knowledge), tasks.index(_task(episode)), _task(episode))
                progress.advance()
        writer.close(tasks)
        os.rename(temporary, target)
        fsync_path(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _task(episode: Episode) -> str:
    return f"drive {episode.attributes['scenario']} in {episode.attributes['weather']}"


def _columns(episode: Episode, knowledge: KnowledgeSet | None) -> dict[str, NDArray[Any]]:
    """An episode's own columns, T rows: frame t, the action taken at it and what that led to."""
    steps = episode.steps
    arrays = episode.read("rgb", "ego", "action", "reward", "terminated", "truncated")
    ego = arrays["ego"][:steps]
    speed = np.hypot(ego[:, EGO_COLUMN["vx"]], ego[:, EGO_COLUMN["vy"]])
    columns = {IMAGES[0]: arrays["rgb"][:steps]}
    if knowledge is not None:
        known = read_annotations(episode, np.arange(steps), knowledge)
        columns |= {IMAGES[1]: known.masks[..., None], "observation.h_ka_valid": known.valid}
    return columns | {
        "observation.state": np.stack([speed, *(ego[:, EGO_COLUMN[name]] for name in STATE[1:])], 1),
        "action": arrays["action"],
        "next.reward": arrays["reward"],
        "next.done": arrays["terminated"] | arrays["truncated"],
        "next.truncated": arrays["truncated"],
        "timestamp": (np.arange(steps) * DT).astype(np.float32),
        "frame_index": np.arange(steps),
    }


class _Writer:
    """Fills data files of about FILE_MB, an episode never in two, then writes meta/."""

    def __init__(self, folder: Path, about: dict[str, dict[str, Any]]) -> None:
        self._folder, self._about = folder, about
        self._file: Any = None
        self._number, self._bytes, self._frames = -1, 0, 0
        self._episodes: list[dict[str, Any]] = []

    def add(self, columns: Columns, task_index: int, task: str) -> None:
        """Write one episode."""
        import pyarrow as pa
        from pyarrow import parquet

        steps, index = len(columns["action"]), len(self._episodes)
        columns = {
            **columns,
            "episode_index": np.full(steps, index),
            "index": np.arange(self._frames, self._frames + steps),
            "task_index": np.full(steps, task_index),
        }
        table = pa.table({name: _arrow(columns[name], each["dtype"]) for name, each in self._about.items()})
        if self._file is None or self._bytes + table.nbytes > FILE_MB * 2**20:
            self._finish_file()
            self._number, self._bytes = self._number + 1, 0
            path = self._folder / "data" / FILES.format(**self._place)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = parquet.ParquetWriter(path, table.schema)
        self._file.write_table(table)
        self._bytes += table.nbytes
        self._episodes.append(
            {
                "episode_index": index,
                "tasks": [task],
                "length": steps,
                **{f"data/{key}": value for key, value in self._place.items()},
                "dataset_from_index": self._frames,
                "dataset_to_index": self._frames + steps,
                "stats": {name: statistics(columns[name], each["dtype"]) for name, each in self._about.items()},
            }
        )
        self._frames += steps

    def close(self, tasks: list[str]) -> None:
        """Write what describes the data."""
        import pyarrow as pa
        from pyarrow import parquet

        self._finish_file()
        meta = self._folder / "meta"
        stats = [episode.pop("stats") for episode in self._episodes]
        merged = {name: merge_statistics([each[name] for each in stats]) for name in self._about}
        write_json(meta / "stats.json", {name: _plain(each) for name, each in merged.items()})
        rows = [
            {
                **episode,
                **{f"stats/{name}/{key}": value for name, each in own.items() for key, value in _plain(each).items()},
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
            }
            for episode, own in zip(self._episodes, stats, strict=True)
        ]
        path = meta / "episodes" / FILES.format(chunk_index=0, file_index=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(rows), path)
        parquet.write_table(_task_table(tasks), meta / "tasks.parquet")
        info = {
            "codebase_version": VERSION,
            "robot_type": "car",
            "total_episodes": len(self._episodes),
            "total_frames": self._frames,
            "total_tasks": len(tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": FILE_MB,
            "video_files_size_in_mb": 0,
            "fps": round(1 / DT),
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": f"data/{FILES}",
            "video_path": None,
            "features": self._about,
        }
        write_json(meta / "info.json", info)

    @property
    def _place(self) -> dict[str, int]:
        return {"chunk_index": self._number // CHUNK_FILES, "file_index": self._number % CHUNK_FILES}

    def _finish_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _arrow(column: NDArray[Any], dtype: str) -> Any:
    """A column as pyarrow wants it: pictures as PNG, vectors as lists of fixed length."""
    import pyarrow as pa

    if dtype == "image":
        pictures = [{"bytes": _png(each), "path": f"frame-{row:06d}.png"} for row, each in enumerate(column)]
        return pa.array(pictures, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    kind = {"float32": pa.float32(), "bool": pa.bool_(), "int64": pa.int64()}[dtype]
    flat = pa.array(np.ascontiguousarray(column).reshape(-1), kind)
    return flat if column.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, column.shape[1])


def _png(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    from PIL import Image

    Image.fromarray(picture.squeeze()).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def statistics(column: NDArray[Any], dtype: str) -> dict[str, NDArray[Any]]:
    """min, max, mean, std and count of a column: per entry (k,); of pictures per channel (C, 1, 1), in [0, 1]."""
    shown = column[::STATISTICS_STRIDE] if dtype == "image" else column.reshape(len(column), -1)
    values = shown.reshape(-1, shown.shape[-1]).astype(np.float64) / (255.0 if dtype == "image" else 1.0)
    found = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    if dtype == "image":
        found = {key: value.reshape(-1, 1, 1) for key, value in found.items()}
    return {**found, "count": np.array([len(shown)])}


def merge_statistics(parts: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The statistics of several columns joined, from those of each."""
    counts = np.array([part["count"][0] for part in parts])
    weights = (counts / counts.sum()).reshape(-1, *[1] * parts[0]["mean"].ndim)
    means, deviations = np.stack([part["mean"] for part in parts]), np.stack([part["std"] for part in parts])
    mean = (weights * means).sum(0)
    return {
        "min": np.stack([part["min"] for part in parts]).min(0),
        "max": np.stack([part["max"] for part in parts]).max(0),
        "mean": mean,
        "std": np.sqrt((weights * (deviations**2 + (means - mean) ** 2)).sum(0)),
        "count": np.array([counts.sum()]),
    }


def _plain(stats: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    return {key: value.tolist() for key, value in stats.items()}


def _task_table(tasks: list[str]) -> Any:
    """The tasks as pandas writes a frame indexed by them: the reader asks for that index."""
    import pyarrow as pa

    index = "__index_level_0__"
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())})
    columns = [
        {"name": name, "field_name": field, "pandas_type": kind, "numpy_type": stored, "metadata": None}
        for name, field, kind, stored in (
            ("task_index", "task_index", "int64", "int64"),
            (None, index, "unicode", "object"),
        )
    ]
    pandas = {"index_columns": [index], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
