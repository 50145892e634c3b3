"""Training runs over chosen settings and seeds, compared in one table."""
