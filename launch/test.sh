#!/usr/bin/env bash
# The whole test suite, set-up included. Arguments go to pytest, e.g. launch/test.sh tests/kernels -k marginals.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/setup.sh
python -m ruff check --quiet . && python -m ruff format --quiet --check .
python -m pyright
# Tests compare CPU figures; an accelerator on the machine stays untouched.
export JAX_PLATFORMS=cpu
# Programs of tests run for moments, so that compiling them is most of their time: XLA's older emitters of code for CPUs
# take about half of it. (The pinned jaxlib knows this option; an unknown one would end the process.)
export XLA_FLAGS="--xla_cpu_use_fusion_emitters=false ${XLA_FLAGS:-}"
# By file, so that what the tests of a file share is made once; in the order of tests/conftest.py.
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
