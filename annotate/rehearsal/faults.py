"""The faults of a rehearsal, each at a chosen frame: once, or (poison) whenever the frame is asked for.

Workers are processes that die, so what has happened is kept in files: a fault that strikes once leaves a mark, and what
is asked of the model goes into a log."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from semore.annotate.interfaces import FrameBatch
from semore.datasets.knowledge import shards as knowledge_shards

Kind = Literal["kill", "poison_kill", "poison", "timeout", "garbage", "kill_mid_write", "torn_shard", "full_disk"]
ONCE: Final[tuple[Kind, ...]] = ("kill", "kill_mid_write", "torn_shard", "full_disk", "garbage")
"""Those that strike once; whoever asks about the frame again finds it in good health."""
POISON: Final[tuple[Kind, ...]] = ("poison", "poison_kill")
"""Those that always strike. Time-outs strike until the rehearsal calms them."""


@dataclass(frozen=True)
class Faults:
    """Digests (hex) of the frames at which each kind strikes; marks and the log of what was asked lie in `folder`."""

    folder: Path | None
    cache: Path | None
    at: Mapping[str, Kind]

    def strike(self, level: str, batch: FrameBatch) -> None:
        """Called by the fake model when it is asked about a batch; may raise, kill the process or damage a file."""
        if self.folder is None:
            return
        frames = [frame.tobytes().hex() for frame in batch.frames]
        self._log(level, frames)
        if level != "texts":
            return
        for frame in frames:
            kind = self.at.get(frame)
            if kind in (None, "garbage") or (kind in ONCE and self._struck(kind, frame)):
                continue
            if kind in ("kill", "poison_kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "poison":
                raise ValueError("this frame breaks the model")
            if kind == "timeout" and not self._calm.exists():
                raise TimeoutError("the model did not answer in time")
            if kind == "torn_shard":
                self._tear()
            if kind in ("kill_mid_write", "full_disk"):
                (self._folder / f"armed-{os.getpid()}").write_text(kind)

    def garbled(self, batch: FrameBatch) -> list[bool]:
        """Whether each frame gets a garbled answer now."""
        frames = (frame.tobytes().hex() for frame in batch.frames)
        return [self.at.get(frame) == "garbage" and not self._struck("garbage", frame) for frame in frames]

    def arm(self) -> None:
        """Let writing shards fail in this process when a fault says so."""
        if self.folder is None or hasattr(knowledge_shards._write, "rehearsed"):
            return
        whole, armed = knowledge_shards._write, self.folder / f"armed-{os.getpid()}"

        def write(path: Path, *arguments: Any) -> None:
            kind = armed.read_text() if armed.exists() else ""
            if kind == "full_disk":
                armed.unlink()
                raise OSError(errno.ENOSPC, "No space left on device")
            whole(path, *arguments)
            if kind == "kill_mid_write":
                os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        write.rehearsed = True  # type: ignore[attr-defined]
        knowledge_shards._write = write  # type: ignore[assignment]

    def calm(self) -> None:
        """From now on the model answers in time."""
        self._calm.touch()

    def asked(self, level: str) -> list[str]:
        """The frames asked about so far, in hex, repeated as often as they were."""
        logs = sorted(self._folder.glob(f"asked-{level}-*"))
        return [line for log in logs for line in log.read_text().splitlines()]

    @property
    def _folder(self) -> Path:
        assert self.folder is not None
        return self.folder

    @property
    def _calm(self) -> Path:
        return self._folder / "calm"

    def _log(self, level: str, frames: Iterable[str]) -> None:
        with open(self._folder / f"asked-{level}-{os.getpid()}", "a", encoding="utf-8") as log:
            log.write("".join(f"{frame}\n" for frame in frames))

    def _struck(self, kind: Kind, frame: str) -> bool:
        """Whether this has happened before; marks it as happened."""
        try:
            (self._folder / f"struck-{kind}-{frame}").touch(exist_ok=False)
        except FileExistsError:
            return True
        return False

    def _tear(self) -> None:
        assert self.cache is not None
        shards = sorted((self.cache / "texts").glob("*.h5"))
        if shards:
            os.truncate(shards[0], shards[0].stat().st_size // 2)


NO_FAULTS: Final = Faults(None, None, {})
