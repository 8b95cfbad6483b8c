"""`regulars train`: collects the shop's tables as arrays and runs the trainings of `lm`."""
