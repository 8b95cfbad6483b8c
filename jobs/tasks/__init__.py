"""What a night asks a model: one module for each task, and the list of them."""
