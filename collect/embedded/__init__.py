"""The built-in world: ray-cast pictures, kinematic physics, walkers and traffic, no server needed."""
