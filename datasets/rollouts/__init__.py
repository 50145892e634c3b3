"""Recorded episodes in Zarr: their schema, their store, and what looks after them."""
