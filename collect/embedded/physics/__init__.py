"""How things in the built-in world move and meet."""
