# Sourced by the other scripts: a virtual environment in the checkout with the pinned dependencies of setup.py.
# PYTHON chooses the interpreter (3.11 or newer); nothing outside the checkout changes.
python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "error: $python is older than Python 3.11: set PYTHON to a newer one, e.g. PYTHON=python3.11" >&2
  exit 2
}
stamp=".venv/installed-$(cksum < setup.py | tr ' ' '-')"
if [ ! -e "$stamp" ]; then
  echo "setting up .venv (once, about a minute)"
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[locked,test]'
  touch "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
# On a CPU: without this, glibc returns every large block to the system and a training step pays for its pages anew.
keep=34359738368
blocks="glibc.malloc.mmap_threshold=$keep:glibc.malloc.trim_threshold=$keep:glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-$blocks}"
# Quiet the C++ side of the libraries; errors still show.
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
