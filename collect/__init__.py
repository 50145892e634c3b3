"""Stage 1: drive a world and record what the camera saw, as rollouts in Zarr."""
