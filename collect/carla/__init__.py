"""CARLA behind the Simulator's seam. The `carla` wheel is optional: only the client's own process imports it."""
