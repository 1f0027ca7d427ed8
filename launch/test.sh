#!/usr/bin/env bash
# Runs the whole test suite, after the setup. Arguments are passed to pytest, e.g.
# launch/test.sh tests/kernels -k marginals.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/setup.sh
python -m ruff check --quiet . && python -m ruff format --quiet --check .
python -m pyright
# The tests compare numbers computed on a CPU; an accelerator of the machine is not used.
export JAX_PLATFORMS=cpu
# The tests run small programs, so most of their time is compilation. XLA's older code generator for CPUs needs about
# half the time, and less where it does not cut a program into parts. (The pinned jaxlib knows these options; an unknown
# option would end the process.)
export XLA_FLAGS="--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 ${XLA_FLAGS:-}"
# All tests of a file run in one process, so that their shared fixtures are made once; the order is that of
# tests/conftest.py. A process that dies is not replaced: its file would begin again with the test that ended it.
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0 "$@"
