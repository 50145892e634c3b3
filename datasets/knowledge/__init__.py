"""The knowledge cache: records in HDF5 shards, the index over them, named sets that read them."""
