"""The audit of H_ka against the simulator's truth."""
