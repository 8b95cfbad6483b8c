"""One module for each output table: a transform from inputs and answers to the rows of its contract."""
