"""Every key that a run reads, at its default. The files in experiment/configs/ change a few of them.

semdlm_jax/core_keys.py and the fields of plug-ins have the meaning and the range of each key;
python -m semdlm_jax.train --help shows them all.
"""

from typing import Any

from ml_collections import ConfigDict

from semdlm_jax.keys import KEYS
from semdlm_jax.options import nest


def get_config() -> Any:
    return ConfigDict(nest({key: option.default for key, option in KEYS.items()}))
