"""The SemDLM+ paper, table by table: `python -m benchmarks.paper --help`."""
