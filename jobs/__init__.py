"""Spark jobs: one module per table that it writes, the night that calls them, the command line."""
