"""Side-by-side measurements, each ending with one line of JSON: `python -m benchmarks.<name> --json`."""
