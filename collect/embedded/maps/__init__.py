"""The two maps of the built-in world, their roads, and the same as OpenDRIVE."""
