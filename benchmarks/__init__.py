"""Measures chatd beside two references in C and IRC servers. `python -m benchmarks.run --help` says how."""
