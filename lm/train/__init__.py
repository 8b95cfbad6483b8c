"""Training shared by all tasks: the loop, its resumable state, model set-up and several processes."""
