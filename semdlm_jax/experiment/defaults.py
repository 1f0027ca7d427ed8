"""Every key a run reads, at its default. The files in experiment/configs/ change a few of them.

What each means, and what it may be, is a line of semdlm_jax/keys.py: python -m semdlm_jax.train --help shows them all.
"""

from typing import Any

from ml_collections import ConfigDict

from semdlm_jax.keys import KEYS
from semdlm_jax.options import nest


def get_config() -> Any:
    return ConfigDict(nest({key: option.default for key, option in KEYS.items()}))
