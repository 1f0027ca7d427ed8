"""SemDLM+ on the State of the Union addresses, on two CPU cores in minutes.

launch/quickstart.sh has the commands. --config=quickstart:mdlm trains another system of experiment/systems.py: from
scratch, and with this file's optimizer, for its authors' learning rates are for budgets ten thousand times this one.
Without a name, SemDLM+ learns to read context from masked text first.
benchmarks/results/quickstart.md holds the study behind these choices.
"""

from semdlm_jax.experiment import defaults, systems


def get_config(system=None):
    config = defaults.get_config()
    config.data.directory = "data/quickstart"
    config.data.length = 64

    config.kernel.k_max = 8
    config.warmup.steps = 400

    config.network.update(
        width=128, layers=3, heads=4, condition_width=64, tied_output=True, dropout=0.0, dtype="float32", unroll=3
    )
    config.optimizer.update(
        name="muon", learning_rate=3e-3, schedule="wsd", warmup_steps=50, decay_fraction=0.5, b2=0.95, ema_decay=0.0
    )
    config.training.update(steps=2800, batch_size=64, log_every=10, eval_every=200, checkpoint_every=200)
    config.evaluation.update(valid_batches=8, draws=4, temperature=0.7)
    return systems.apply(config, system, optimizer=False)
