"""The report of a night: facts, a page and one line, for whoever judges the night in the morning."""
