"""The results of the study as CSV files, tables and pictures."""
