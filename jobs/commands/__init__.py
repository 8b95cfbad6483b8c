"""The commands behind the command line: options, and one module for each command that has no room of its own."""
