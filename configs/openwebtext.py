"""The paper's run on OpenWebText; semdlm_jax/experiment/configs/openwebtext.py has its values and reasons.

python -m semdlm_jax.data.prepare --config=configs/openwebtext.py
python -m semdlm_jax.semantics.build --config=configs/openwebtext.py
python -m semdlm_jax.train --config=configs/openwebtext.py --workdir=runs/openwebtext
python -m semdlm_jax.evaluate --workdir=runs/openwebtext --split=test
python -m semdlm_jax.generate --workdir=runs/openwebtext --steps=1024 --strides=2
"""

from semdlm_jax.experiment.configs.openwebtext import get_config  # noqa: F401
