"""Systems side by side on a slice of Wikipedia in bert-base-uncased pieces, for a few minutes of one accelerator each.

6 layers of width 384 (10.6M parameters of matrices in the layers), rows of 128, 256 rows a step: 32,768 tokens. The
optimizer is that of configs/quickstart.py, for every system: those of the authors are for budgets hundreds of times
this one. README.md beside this file has the commands; any text in place of Wikipedia's will do.

Systems whose noise looks like text read context late (benchmarks/results/quickstart.md), so they begin with 192 steps
on masked text, an eighth of the steps of job 1.
"""

from semdlm_jax.experiment import defaults, systems

STEPS = 1536  # of a run: 50.3M tokens
LIKE_TEXT = ("udlm", "unigram", "semdlm_plus", "semdlm_nested", "semdlm_nested_deep", "semdlm_nested_mask")


def get_config(system=None):
    config = defaults.get_config()
    config.data.update(
        corpus="text:wiki/*.jsonl.gz",
        directory="data/wiki",
        tokenizer="bert-base-uncased",
        vocab_size=30522,
        length=128,
    )
    config.semantics.neighbors = 32
    config.kernel.k_max = 32
    config.objective.chunk = 32
    config.network.update(
        width=384, layers=6, heads=6, condition_width=64, tied_output=True, dropout=0.0, dtype="bfloat16", unroll=6
    )
    config.optimizer.update(
        name="muon", learning_rate=3e-3, schedule="wsd", warmup_steps=50, decay_fraction=0.5, b2=0.95, ema_decay=0.0
    )
    config.training.update(steps=STEPS, batch_size=256, log_every=16)
    config.evaluation.update(batch_size=256, valid_batches=2, draws=4)
    systems.apply(config, system, optimizer=False)
    config.warmup.steps = STEPS // 8 if system in LIKE_TEXT else 0
    return config
