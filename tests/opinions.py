"""Words that reviews are made of: those of each label, and those that say nothing."""

WORDS = (("awful", "broke", "refund"), ("fine", "average", "okay"), ("lovely", "great", "perfect"))
FILLER = ("the", "lamp", "arrived", "on", "monday", "with", "a", "box", "and", "it", "was", "in", "my", "kitchen")
