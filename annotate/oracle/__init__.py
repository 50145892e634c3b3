"""Producers that read the simulator's state instead of pixels: describer, segmenter, judge, and the rules they share."""
