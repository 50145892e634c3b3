"""The project's own study: what it trains, its results and pictures. It is not part of the package.

No other package imports it."""
