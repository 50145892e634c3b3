"""Stage 3: the Semore agent, trained on recorded frames and their knowledge, refreshed online."""
