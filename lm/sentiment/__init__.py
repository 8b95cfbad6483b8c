"""Review sentiment: the classifier, its n-grams and calibration, and their training."""
