"""Small scripts of the build; run as `python -m tools.NAME` from the root of the repository."""
