"""Our own study: what it trains, its results and pictures. Not part of the installed package; nothing imports it."""
