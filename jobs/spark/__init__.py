"""Spark helpers that all rooms share: session, files, Parquet, UDFs, errors, progress and table contracts."""
