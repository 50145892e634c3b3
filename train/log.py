"""Metrics on disk: a tidy CSV (update, metric, value) that a resumed run cuts back to its checkpoint."""

from __future__ import annotations

import csv
import math
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from datasets.files import write_text

HEADER = "update,metric,value\n"


class MetricsFile(Logger):
    """A Lightning logger appending to `metrics.csv`; each entry is on disk when `log_metrics` returns."""

    def __init__(self, path: Path, keep_until: int) -> None:
        """Keep the rows of updates ≤ `keep_until`, drop later ones: they belong to work that will be done again."""
        super().__init__()
        self._path = path
        rows = [row for row in read_metrics(path) if row[0] <= keep_until] if path.exists() else []
        write_text(path, HEADER + "".join(f"{update},{name},{value!r}\n" for update, name, value in rows))

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: settings.json holds them."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        with open(self._path, "a", encoding="utf-8") as handle:
            handle.writelines(f"{step},{name},{float(value)!r}\n" for name, value in metrics.items())


def read_metrics(path: Path) -> Iterator[tuple[int, str, float]]:
    """(update, metric, value) rows; a torn last line is skipped."""
    with open(path, newline="", encoding="utf-8") as handle:
        for row in csv.reader(handle):
            if len(row) == 3 and row[0].isdigit():
                value = float(row[2]) if row[2] else math.nan
                yield int(row[0]), row[1], value
