"""A server that speaks CARLA 0.9.16's protocol on top of the embedded world (`semore loopback`)."""
