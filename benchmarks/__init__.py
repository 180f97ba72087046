"""One script a claim; each writes benchmarks/results/<name>.json."""
