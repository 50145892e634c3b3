"""Stage 2: name and segment what matters in each recorded frame, once, into the knowledge cache."""
