"""CRIS-R50: pictures and phrases to soft masks (method.md §7)."""

from semore.annotate.segment.cris.checkpoint import load_checkpoint
from semore.annotate.segment.cris.network import CRIS

__all__ = ["CRIS", "load_checkpoint"]
