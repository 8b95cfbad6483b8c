"""What all rooms share around Spark: the session, files, Parquet, UDFs, errors, progress and contracts."""
