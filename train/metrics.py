"""What a run leaves to be read: the names of its files, and metrics.csv."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

LOG = "train.log"
"""What a run says that is one of several at once."""
HEADER = "update,metric,value\n"
"""The first line of metrics.csv."""


def read_metrics(path: Path) -> Iterator[tuple[int, str, float]]:
    """(update, metric, value) rows; a torn last line is skipped."""
    with open(path, newline="", encoding="utf-8") as handle:
        for row in csv.reader(handle):
            if len(row) == 3 and row[0].isdigit():
                value = float(row[2]) if row[2] else math.nan
                yield int(row[0]), row[1], value
