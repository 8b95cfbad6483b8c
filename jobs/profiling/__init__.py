"""What is in a shop's files: samples of their columns, and guesses of what each column is."""
