"""CRIS-tiny, the small segmenter of the embedded world: network, training, weights and model card."""
