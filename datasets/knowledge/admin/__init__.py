"""Commands over the knowledge cache: why, diff, gc, compact, stats, verify."""
