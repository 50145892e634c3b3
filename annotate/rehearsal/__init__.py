"""A rehearsal of a cluster: the true Dask path with a slow fake model and injected faults, checked at the end."""
