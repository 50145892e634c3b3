"""CARLA 0.9.16 behind the Simulator's seam. The `carla` wheel is an optional extra: only the client's process imports it."""
