"""What the stages hand each other: rollouts (Zarr), the knowledge cache (HDF5), the frame pool for training."""
