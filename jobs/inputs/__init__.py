"""The shop's tables: opened, mapped, validated, deduplicated, and every row accounted for."""
