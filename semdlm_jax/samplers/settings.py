"""The settings of sampling: their defaults, ranges and meanings."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from semdlm_jax.errors import UserError
from semdlm_jax.options import counted, number, resolve, shown, switch, text
from semdlm_jax.plugins import Plugin, field, options_of

WEIGHT = "[0, 1000000]"
POSITIONS = "[0, 1048576]"


@dataclasses.dataclass(frozen=True)
class SamplingSettings(Plugin):
    """How text is sampled.

    Args:
        sampler: a name of METHODS.
        options: the sampler's own.
        steps: network evaluations for the whole sequence, shared between the strides; of the sampler `exact`, which
            evaluates as often as events ask, the times at which a trajectory is recorded.
        strides: equal parts of the sequence, generated left to right.
        grid: a name of GRIDS.
        t_min: where the last step starts; None: where training does.
        greedy_end: whether the last step takes the likeliest token.
        corrector_steps, corrector_strength: as Sampler has them.

    The others are those of `make_controls`.
    """

    sampler: str = field(text("ancestral", "how a step is taken", "samplers:METHODS", own=True))
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    steps: int = field(number(128, "[1, 100000]", "network evaluations for the sequence, over all strides"))
    strides: int = field(number(1, "[1, 1048576]", "equal parts of the sequence, left to right"))
    grid: str = field(text("uniform", "spacing of the times", "samplers:GRIDS"))
    t_min: float | None = field(number(None, "[1e-9, 1)", "where the last step starts", kind=float))
    greedy_end: bool = field(switch(False, "the last step takes the likeliest token"))
    corrector_steps: int = field(number(0, "[0, 10000]", "evaluations after each step that redraw tokens"))
    corrector_strength: float = field(number(0.1, "[0, 1]", "chance that one redraws a token"))
    temperature: float = field(number(1.0, "[0, 1000]", "divides the network's logits; 0 takes the likeliest"))
    top_k: int = field(number(0, "[0, 2097152]", "only so many of the likeliest tokens; 0 for all"))
    top_p: float = field(number(1.0, "(0, 1]", "only the likeliest tokens that make up this share"))
    lambda_freq: float = field(number(0.0, WEIGHT, "penalty on tokens that occur already (Eq. 23)"))
    lambda_sem: float = field(number(0.0, WEIGHT, "penalty on tokens whose neighbors do (Eq. 23)"))
    window: int = field(number(0, POSITIONS, "positions of the penalty's window; 0 is the whole sequence"))

    def __post_init__(self):
        super().__post_init__()
        check_options_of_sampler(self.options)

    def __str__(self):
        """Only what differs from the defaults, after the sampler and its steps."""
        changed = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("sampler", "options", "steps", "strides", "temperature")
            and getattr(self, field.name) != field.default
        }
        extras = "".join(f", {name} {value}" for name, value in {**self.options, **changed}.items())
        continuous = resolve("samplers:METHODS").find(self.sampler).continuous
        steps = "continuous time" if continuous else counted(self.steps, "step")
        return f"{self.sampler}, {steps}, {counted(self.strides, 'stride')}, temperature {self.temperature:g}{extras}"


def check_settings(**values: Any) -> None:
    """UserError for a value out of its setting's range."""
    for name, value in values.items():
        options_of(SamplingSettings)[name].check(name, value)


def check_options_of_sampler(options: Any) -> None:
    """UserError unless these are {name of an option: value}."""
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise UserError(
            f"options = {shown(options)} is no dict of the sampler's own options: give each by its name, as rho=0.5"
        )
