"""The ray-caster: what the camera sees of the built-in world."""
