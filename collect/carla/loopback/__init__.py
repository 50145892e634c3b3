"""A server that speaks CARLA 0.9.16's protocol, the embedded world behind it: `semore loopback`."""
