#!/usr/bin/env bash
# The whole test suite, set-up included. Arguments go to pytest, e.g. launch/test.sh tests/kernels -k marginals.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/setup.sh
python -m ruff check --quiet . && python -m ruff format --quiet --check .
python -m pyright
# Tests compare CPU figures; an accelerator on the machine stays untouched.
export JAX_PLATFORMS=cpu
# By file, so that what the tests of a file share is made once; in the order of tests/conftest.py.
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
