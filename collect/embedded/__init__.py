"""The embedded world: ray-cast pictures, kinematic physics, walkers and traffic, without a server."""
