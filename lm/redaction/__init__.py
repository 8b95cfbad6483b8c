"""Personal data out of texts: one folding of a text, then detectors, one module for each family of kinds."""
