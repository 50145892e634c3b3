"""Which frames a pass annotates, in which order and chunks, at what cost, and on which executor."""
