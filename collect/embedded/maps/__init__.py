"""The two maps of the embedded world, their roads, and their OpenDRIVE text."""
