# Creates a virtual environment in this checkout with the pinned dependencies of setup.py, and activates it. The other
# scripts source this file; you can source it too, from any directory, in bash or zsh. PYTHON is the interpreter that
# creates the environment (3.11 or newer). Nothing outside the checkout is changed. If the setup fails, a non-zero status
# is returned, no variable is changed, and the next call tries again.
semdlm_install() ( # checkout
  python="${PYTHON:-python3}" venv="$1/.venv"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "error: $python is not installed or is older than Python 3.11: set PYTHON to a newer one, e.g. PYTHON=python3.11" >&2
    exit 2
  }
  # This file is written last, so it exists only after a complete installation. Its name depends on setup.py and on the
  # path of the checkout, to which the installation (-e) points.
  stamp="$venv/installed-$({ echo "$1" && cat "$1/setup.py"; } | cksum | tr ' ' '-')"
  if [ -e "$stamp" ] && "$venv/bin/python" -c '' 2>/dev/null; then exit 0; fi
  echo "creating .venv (only the first time; takes one or two minutes)"
  find "$venv" -maxdepth 1 -name 'installed-*' -delete 2>/dev/null
  "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv" &&
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "${1}[locked,test]" &&
    touch "$stamp" || {
    echo "error: $venv could not be created, see the message above: to try again, give the same command" >&2
    exit 1
  }
)
semdlm_checkout="${BASH_SOURCE[0]:-}"
if [ -n "${ZSH_VERSION:-}" ]; then eval 'semdlm_checkout="${(%):-%x}"'; fi # bash cannot parse this expression
semdlm_checkout="$(CDPATH='' cd -- "$(dirname -- "$semdlm_checkout")/.." && pwd)"
semdlm_install "$semdlm_checkout" || return
export PATH="$semdlm_checkout/.venv/bin:$PATH"
# For CPUs: without these settings, glibc returns every large block of memory to the system after use, and every training
# step has to request its pages again.
keep=34359738368
blocks="glibc.malloc.mmap_threshold=$keep:glibc.malloc.trim_threshold=$keep:glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-$blocks}"
# Hides informational messages and warnings of the libraries' C++ code; errors are still shown.
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
unset -f semdlm_install
unset semdlm_checkout keep blocks
