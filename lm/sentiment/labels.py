"""The sentiment labels in the order of every label number: 0 negative, 1 neutral, 2 positive."""

LABELS = ("negative", "neutral", "positive")
#: The label number of a review without stars.
UNRATED = -1
