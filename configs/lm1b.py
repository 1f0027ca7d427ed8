"""The paper's LM1B model: 12 layers, width 768, 12 heads, adaLN condition width 128, length 128.

    python -m semdlm_jax.train --config=configs/lm1b.py --workdir=runs/lm1b --config.data.corpus=synthetic
    python -m semdlm_jax.train --config=configs/lm1b.py:mdlm …      any system of configs/systems.py

Global batch 512, AdamW 3e-4, 2,500 warm-up steps, clip 1.0, dropout 0.1, EMA 0.9999, bf16, 200k steps. Until a corpus
of bert-base-uncased pieces is prepared, only random tokens (`synthetic`) can be trained on: a check of size and speed.
"""

from configs import base, systems


def get_config(system=None):
    config = base.get_config()
    config.data.update(corpus="synthetic", directory="data/lm1b", vocab_size=30522, length=128)
    config.kernel.k_max = 32
    config.objective.chunk = 32
    return systems.apply(config, system)
