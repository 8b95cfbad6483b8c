"""Opens, maps, validates and deduplicates the shop's tables, and counts what became of every row."""
