"""SemDLM+ on two CPU cores in minutes; semdlm_jax/experiment/configs/quickstart.py has its values and reasons.

bash launch/quickstart.sh
python -m semdlm_jax.train --config=configs/quickstart.py:mdlm --workdir=runs/mdlm
"""

from semdlm_jax.experiment.configs.quickstart import get_config  # noqa: F401
