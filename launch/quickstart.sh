#!/usr/bin/env bash
# Goes from a fresh clone to a trained SemDLM+ model and eight samples. If it is started again, it continues where it
# stopped. WORKDIR (default: runs/quickstart) is the directory of the run. All arguments are passed to the trainer, e.g.
# --config.training.steps=200.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/setup.sh
config=configs/quickstart.py
workdir="${WORKDIR:-runs/quickstart}"

echo "== 1/5 corpus and vocabulary"
python -m semdlm_jax.data.prepare --config="$config"
echo "== 2/5 neighbor table"
python -m semdlm_jax.semantics.build --config="$config"
echo "== 3/5 training"
python -m semdlm_jax.train --config="$config" --workdir="$workdir" "$@"
echo "== 4/5 evaluation on the test split"
python -m semdlm_jax.evaluate --workdir="$workdir" --split=test --output="$workdir/test.json"
echo "== 5/5 eight samples"
python -m semdlm_jax.generate --workdir="$workdir" --num_samples=8 --steps=128 --strides=2 --temperature=0.7 --seed=0 --output="$workdir/samples.jsonl"
