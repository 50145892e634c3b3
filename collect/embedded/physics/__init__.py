"""The motion and contact of everything in the embedded world."""
