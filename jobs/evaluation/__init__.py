"""`regulars evaluate`: compares published lists, labels and the loyalty experiment with later events."""
