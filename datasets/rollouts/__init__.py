"""Recorded episodes in Zarr: their schema, their store, and the commands over them."""
