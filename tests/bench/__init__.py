"""The benchmarks: each runs alone as `python -m tests.bench.<name> [--quick] [--json]`, all by `make bench`."""

import os

# Threads that spin while they wait for each other cost most of the time as soon as anything else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
