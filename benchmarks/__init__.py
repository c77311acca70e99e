"""What Handrail costs, measured on the real server: `python -m benchmarks`."""
