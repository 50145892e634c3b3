"""One self-contained HTML file that compares runs: what they show, how sure that is, and where it comes from."""
