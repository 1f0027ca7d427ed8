# Sourced by the other scripts, or by hand from any directory, in bash or zsh: a virtual environment in this checkout
# with the pinned dependencies of setup.py. PYTHON chooses the interpreter that makes it (3.11 or newer); nothing outside
# the checkout changes. Where it fails it returns a status, changes no variable, and starts again the next time.
semdlm_install() ( # checkout
  python="${PYTHON:-python3}" venv="$1/.venv"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "error: $python is not there or older than Python 3.11: set PYTHON to a newer one, e.g. PYTHON=python3.11" >&2
    exit 2
  }
  # Written last, so that it stands for a whole installation: of this setup.py, and here, where -e points.
  stamp="$venv/installed-$({ echo "$1" && cat "$1/setup.py"; } | cksum | tr ' ' '-')"
  if [ -e "$stamp" ] && "$venv/bin/python" -c '' 2>/dev/null; then exit 0; fi
  echo "setting up .venv (once, about a minute)"
  find "$venv" -maxdepth 1 -name 'installed-*' -delete 2>/dev/null
  "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv" &&
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "${1}[locked,test]" &&
    touch "$stamp" || {
    echo "error: $venv could not be set up, for the reason above: the same command tries again" >&2
    exit 1
  }
)
semdlm_checkout="${BASH_SOURCE[0]:-}"
if [ -n "${ZSH_VERSION:-}" ]; then eval 'semdlm_checkout="${(%):-%x}"'; fi # which bash cannot read
semdlm_checkout="$(CDPATH='' cd -- "$(dirname -- "$semdlm_checkout")/.." && pwd)"
semdlm_install "$semdlm_checkout" || return
export PATH="$semdlm_checkout/.venv/bin:$PATH"
# On a CPU: without this, glibc returns every large block to the system and a training step pays for its pages anew.
keep=34359738368
blocks="glibc.malloc.mmap_threshold=$keep:glibc.malloc.trim_threshold=$keep:glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-$blocks}"
# Quiet the C++ side of the libraries; errors still show.
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
unset -f semdlm_install
unset semdlm_checkout keep blocks
