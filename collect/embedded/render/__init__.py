"""The renderer of the embedded world: a ray-caster for the ego's camera."""
