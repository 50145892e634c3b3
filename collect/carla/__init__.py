"""The CARLA simulator. Only the client's own process imports the optional `carla` wheel."""
