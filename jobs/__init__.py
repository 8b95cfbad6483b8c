"""Spark jobs: one module per table that it writes, the night that calls them in order, and the command line."""
