"""`regulars.yaml`: every key, its type, its default, and how the file is read."""
