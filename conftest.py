"""Makes `tools` importable in the tests: pytest puts this file's folder on the path."""
