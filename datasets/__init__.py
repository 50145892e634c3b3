"""The formats that the stages exchange: rollouts (Zarr), the knowledge cache (HDF5), the frame pool."""

if not __name__.startswith("semore."):
    raise ImportError("this folder is the package semore.datasets: import that, and install it with `pip install -e .`")
