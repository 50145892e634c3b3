"""The go or no-go before days of GPU: what a sample says about rate, cost of the rest, failures, and how it looks."""

from __future__ import annotations

from pathlib import Path

from datasets.knowledge import KnowledgeCache


def report_pilot(cache: KnowledgeCache, name: str, folder: Path, sample: int, off_decisions: bool) -> None:
    raise NotImplementedError
