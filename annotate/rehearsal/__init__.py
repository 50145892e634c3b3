"""A rehearsal of the cluster: the true Dask path with a slow fake model and injected faults, and a check of the end."""
