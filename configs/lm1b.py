"""The paper's run on the One Billion Word Benchmark; semdlm_jax/experiment/configs/lm1b.py has its values and reasons.

python -m semdlm_jax.data.prepare --dataset=lm1b --source=DIR_OR_ARCHIVE    the benchmark's own files, r13output
python -m semdlm_jax.data.prepare --config=configs/lm1b.py
python -m semdlm_jax.semantics.build --config=configs/lm1b.py
python -m semdlm_jax.train --config=configs/lm1b.py --workdir=runs/lm1b
python -m semdlm_jax.evaluate --workdir=runs/lm1b --split=test
python -m semdlm_jax.generate --workdir=runs/lm1b --steps=512 --strides=2
"""

from semdlm_jax.experiment.configs.lm1b import get_config  # noqa: F401
