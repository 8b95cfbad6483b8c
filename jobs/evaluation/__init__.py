"""`regulars evaluate`: judges published lists, labels and the loyalty experiment against later events."""
