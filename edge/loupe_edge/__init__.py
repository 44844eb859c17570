"""The runtime: camera in, verdicts out."""
