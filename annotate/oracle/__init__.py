"""Producers that read the simulator's state, not its pixels: describer, segmenter, judge, and their shared rules."""
