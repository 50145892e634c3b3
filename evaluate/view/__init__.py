"""Walk through a rollout in a browser."""
