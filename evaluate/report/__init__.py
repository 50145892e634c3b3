"""One self-contained HTML file that compares runs, with intervals and provenance."""
