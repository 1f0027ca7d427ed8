#!/usr/bin/env bash
# Runs on all hosts of a TPU slice, which TPU names and ZONE locates (GPUs: launch/slurm.sbatch, launch/kubernetes.yaml):
#
#   export TPU=my-slice ZONE=us-central1-a
#   bash launch/tpu_vm.sh setup https://github.com/OWNER/semdlm_jax.git         once
#   bash launch/tpu_vm.sh train --config=lm1b --data_directory=gs://bucket/lm1b --workdir=gs://bucket/runs/lm1b
#   bash launch/tpu_vm.sh log        what the training says; the first host alone speaks
#   bash launch/tpu_vm.sh stop       saves a checkpoint; `train` with the same arguments goes on
#
# Data and work directory are in a bucket, or at the same path on all hosts, e.g. on Filestore. The hosts find each other
# by themselves. A slice that was preempted and created again needs `setup` and `train` once more. PYTHON (default:
# python3.11) is the interpreter there, 3.11 or newer.
set -euo pipefail
: "${TPU:?give the name of the slice}" "${ZONE:?give its zone}"

on() { # WORKER COMMAND
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker="$1" --command="$2"
}

action="${1:-}"
shift || true
case "$action" in
  setup) on all "git clone $(printf %q "$1") semdlm_jax && ${PYTHON:-python3.11} -m venv venv &&
    venv/bin/pip install --quiet 'jax[tpu]' './semdlm_jax[run,gcs]'" ;;
  train) on all "nohup venv/bin/python -m semdlm_jax.train $(printf '%q ' "$@")>>train.log 2>&1 </dev/null &" ;;
  log) on 0 "tail -n 100 -F train.log" ;;
  stop) on all "pkill -TERM -f '[s]emdlm_jax.train'" ;;
  *) echo "give setup REPOSITORY, train ARGUMENTS, log or stop" >&2 && exit 2 ;;
esac
