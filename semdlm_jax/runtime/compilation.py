"""Keeping compiled programs between commands, so that each is compiled only once on a machine."""

import contextlib
import hashlib
import platform
import sys
import tempfile
import warnings
from pathlib import Path

import jax

from semdlm_jax.storage import cache_folder

OFF = "JAX_ENABLE_COMPILATION_CACHE=false"
LARGEST = 4 * 2**30  # bytes of all programs together; beyond this the oldest are deleted
SUFFIX = "-cache"  # of JAX's files


def keep_programs() -> None:
    """From now on this process keeps compiled programs in `place()` and reuses those that are there.

    To be called before the first compilation. Nothing is changed if JAX has a place already, or must keep no programs.
    If the place cannot be written, a note says so. Damaged files are silently compiled again.
    """
    folder = place()
    if folder is None or jax.config.values["jax_compilation_cache_dir"]:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        cause = error.strerror or error
        line = f"note: compiled programs are not kept: {folder} cannot be written ({cause}); {OFF} asks for none"
        print(line, file=sys.stderr, flush=True)
        return
    _trim(folder)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache", UserWarning)
    jax.config.update("jax_compilation_cache_dir", str(folder))


def place() -> Path | None:
    """The folder of compiled programs; None if none are kept.

    It is the one that JAX was given, e.g. by JAX_COMPILATION_CACHE_DIR, or else below the user's cache directory, which
    is $XDG_CACHE_HOME or ~/.cache.
    """
    if not jax.config.values["jax_enable_compilation_cache"]:
        return None
    if told := jax.config.values["jax_compilation_cache_dir"]:
        return Path(told)
    return cache_folder() / "compiled" / _processor()


def describe() -> str:
    """What is kept and where, as text."""
    folder = place()
    if folder is None:
        return f"none, as {OFF} says"
    files = list(folder.glob(f"*{SUFFIX}"))
    size = sum(path.stat().st_size for path in files) / 2**20
    return f"{folder}, {len(files)} programs, {size:.1f} MiB; {OFF} keeps none"


def _processor():
    """A name of the CPU's features: a program compiled for another CPU that shares the folder would crash."""
    found = [platform.machine()]
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        found += sorted({line for line in file if line.startswith(("flags", "Features", "model name"))})
    return f"{platform.machine() or 'cpu'}-{hashlib.sha256(''.join(found).encode()).hexdigest()[:8]}"


def _trim(folder):
    with contextlib.suppress(OSError):  # another process may be at it
        files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in folder.glob(f"*{SUFFIX}"))
        size = sum(size for _, size, _ in files)
        for _, one, path in files:
            if size <= LARGEST:
                break
            path.unlink()
            size -= one
