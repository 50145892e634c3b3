"""A viewer of recorded episodes in a browser."""
