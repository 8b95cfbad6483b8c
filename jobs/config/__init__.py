"""The configuration file `regulars.yaml`: its keys, their types and defaults, and how it is read."""
