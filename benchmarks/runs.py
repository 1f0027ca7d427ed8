"""Finished runs by name, as studies of samplers take them."""

from semdlm_jax.errors import UserError


def read_runs(items):
    """{name: work directory} of NAME=WORKDIR texts. UserError for anything else."""
    runs = dict(item.split("=", 1) for item in items if "=" in item)
    if not runs or len(runs) != len(items):
        raise UserError("--runs must be NAME=WORKDIR pairs of different names, separated by commas")
    return runs
