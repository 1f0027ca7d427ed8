"""Writing text with a trained model: what of it is compiled, and when it is compiled again."""

import abc
from collections.abc import Callable, Hashable, Iterable
from typing import Any, ClassVar

import jax
import numpy as np

from semdlm_jax import trace
from semdlm_jax.data.conditioning import Condition, Layout
from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.likelihood import compile_whole
from semdlm_jax.experiment.build import build_network
from semdlm_jax.experiment.load import Trained
from semdlm_jax.objectives import Autoregressive, Objective
from semdlm_jax.options import counted
from semdlm_jax.runtime.mesh import place_batch
from semdlm_jax.samplers import (
    Plan,
    Sampler,
    SamplingSettings,
    Trajectory,
    make_controls,
    make_method,
    make_plan,
    sample_autoregressive,
)
from semdlm_jax.samplers.cells import expected_candidates
from semdlm_jax.samplers.presets import make_settings

PROGRAMS = 8  # compiled programs that a model keeps, each for all the shapes it has met


def check_conditions(conditions: Iterable[Condition], settings: SamplingSettings, chain: bool) -> None:
    """UserError if generated tokens could not depend on the given ones."""
    if all(condition.only_prompt for condition in conditions):
        return
    if chain:
        raise UserError("an autoregressive run sees only the tokens before: give a prompt, no suffix and no blanks")
    if settings.strides > 1:
        raise UserError(
            f"strides = {settings.strides}: a sample is generated in {settings.strides} parts, left to right, and the "
            "first does not see a suffix or what follows a blank: give strides=1 as well (--strides=1)"
        )


SEEN = 64  # tokens of the vocabulary that `note_of_context` asks about


def note_of_context(trained: Trained, conditions: Iterable[Condition], settings: SamplingSettings) -> str:
    """A line that the network takes given tokens and finished strides for noisy ones; '' if there are none, or if it
    does not."""
    given = any(condition.known.any() or len(condition.end) for condition in conditions)
    what = ["given tokens"] * given + ["finished strides"] * (settings.strides > 1)
    if not what or trained.objective.exact or trained.denoiser.clean_mark or not _looks_like_text(trained):
        return ""
    kernel = trained.config.kernel.name
    return (
        f"note: {' and '.join(what)} are read as noisy text of the current time, for under kernel {kernel!r} any token "
        "may be noise: a run with --config.network.clean_mark=True --config.objective.clean_rows=0.5 learns to read "
        "them as they are"
    )


def _looks_like_text(trained):
    """Whether a token of text may be noise: whether it can come from another token, at any time before 1."""
    text = np.setdiff1d(np.arange(trained.corpus.vocab_size), trained.corpus.special_ids)[:SEEN]
    return bool(np.any(np.sum(np.asarray(trained.objective.kernel.likelihoods(text, 0.5)) > 0, axis=-1) > 1))


class Generator(abc.ABC):
    """A trained model with the settings of its sampler. Generators of one model share a compiled program where they
    differ in prompts, seeds, times, temperatures, penalty weights and the like: only a change of the program itself is
    compiled anew.

    Attributes:
        chain: it writes from left to right and has no reverse process.
        plan: the times of the reverse process; None without one.
        controls: what changes the distribution of each draw.
    """

    chain: ClassVar[bool] = False

    def __init__(self, trained: Trained, settings: SamplingSettings, recorded: int = 0):
        self._trained = trained
        self.plan: Plan | None = None
        names = "temperature greedy_end top_k top_p lambda_freq lambda_sem window".split()
        given = {name: getattr(settings, name) for name in names}
        self.controls = make_controls(trained.corpus.table, forbidden_V=trained.forbidden, **given)
        static, build = self._prepare(trained.objective, settings, recorded)
        self._program = _program(trained, static, build)

    @abc.abstractmethod
    def _prepare(self, objective: Any, settings: SamplingSettings, recorded: int) -> tuple[Hashable, Callable]:
        """(what a program is compiled for, a function that makes the function to compile). UserError for impossible
        settings, before any work."""

    def write(self, key: jax.Array, layout: Layout) -> tuple[np.ndarray, Trajectory | None]:
        """(text [B, L] int32, Trajectory), whole on every process. layout: B rows, which divide over the mesh."""
        rows = {name: value for name, value in layout._asdict().items() if value is not None}
        rows = place_batch(rows, self._trained.mesh)
        return jax.tree.map(np.asarray, self._program(self._trained.params, key, rows, self.plan, self.controls))

    def note_of_work(self, free: float) -> str:
        """A line on how long a batch may take, where the settings do not say it; '' where they do. free: positions of
        a row to write."""
        return ""

    def trace(self, trajectory: Trajectory, is_given: np.ndarray) -> trace.Trace:
        """The Trace of a Trajectory; is_given: [R, L] of its rows. UserError without a reverse process."""
        raise UserError("an autoregressive run has no reverse process to replay")


class ReverseGenerator(Generator):
    """Text by the reverse process of a kernel."""

    def _prepare(self, objective: Objective, settings, recorded):
        self._method = make_method(settings.sampler, **settings.options)
        self._kernel = objective.kernel
        corrector = settings.corrector_steps, settings.corrector_strength
        sampler = Sampler(self._method, objective.kernel, objective.posterior, *corrector)
        self.plan = make_plan(
            objective.kernel,
            settings.steps,
            settings.strides,
            self._trained.config.data.length,
            objective.t_min if settings.t_min is None else settings.t_min,
            grid=settings.grid,
            between=self._method.between(objective.kernel),
        )
        denoiser = self._trained.denoiser
        return (self._method, *corrector, recorded), lambda: _reverse_process(denoiser, sampler, recorded)

    def note_of_work(self, free):
        prepared = self._trained.corpus.prepared
        if not self._method.continuous or prepared is None:
            return ""
        assert self.plan is not None
        events = free * expected_candidates(self._kernel, prepared.unigram, float(self.plan.t[-1]))
        return f"about {counted(max(round(events), 1), 'network evaluation')} for each batch"

    def trace(self, trajectory, is_given):
        assert self.plan is not None
        t, s, _, start, stop = self.plan
        more = len(trajectory.tokens) - len(t)
        if more:  # corrections of finished text
            at = np.full(more, self._method.correction_time)
            t, s = np.append(t, at), np.append(s, at)
            start, stop = np.append(start, np.zeros(more, int)), np.append(stop, np.full(more, is_given.shape[1]))
        initial, tokens, confidence, frozen = map(np.asarray, trajectory[:4])
        return trace.Trace(t, s, start, stop, initial, tokens, confidence, frozen, is_given)


class ChainGenerator(Generator):
    """Text by the chain rule, from left to right, a token a step."""

    chain = True

    def _prepare(self, objective: Autoregressive, settings, recorded):
        _check_chain(settings, recorded)
        return "chain", lambda: _chain(self._trained.denoiser, objective.start_id)


def make_generator(trained: Trained, settings: SamplingSettings, recorded: int = 0) -> Generator:
    """The Generator of a model.

    Args:
        trained: the model.
        settings: of its sampler.
        recorded: of how many rows of a batch the trajectory is kept.

    Raises:
        UserError: impossible settings.
    """
    return (ChainGenerator if trained.objective.exact else ReverseGenerator)(trained, settings, recorded)


def _program(trained, static, build):
    """The compiled form of the function that `build` makes, from the model's cache if it holds one for these static
    parts; a full cache drops the program that was used longest ago. All take (params, key, layout, plan, controls)."""
    programs = trained.programs
    program = programs.pop(static, None) or compile_whole(build(), trained.mesh)
    programs[static] = program
    if len(programs) > PROGRAMS:
        del programs[next(iter(programs))]
    return program


def _reverse_process(denoiser, sampler, recorded):
    def write(params, key, layout, plan, controls):
        given, is_given, lengths = layout["tokens"], layout["given"], layout.get("lengths")
        network = build_network(denoiser, params)
        return sampler.sample(key, network, given, is_given, plan, controls, recorded=recorded, lengths_B=lengths)

    return write


def _chain(denoiser, start_id):
    def write(params, key, layout, plan, controls):
        del plan
        given, is_given = layout["tokens"], layout["given"]
        text = sample_autoregressive(
            key,
            lambda token, position, cache: denoiser.step(params, token, position, cache),
            lambda features: denoiser.logits(params, features),
            denoiser.init_cache(*given.shape),
            start_id,
            given,
            is_given,
            controls.choose,
        )
        return text, None

    return write


def _check_chain(settings, recorded):
    """UserError for settings that only a reverse process has."""
    for name in ("sampler", "options", "strides", "grid", "corrector_steps", "t_min", "window"):
        if getattr(settings, name) != getattr(make_settings(), name):
            raise UserError(f"an autoregressive run writes left to right, a token a step: {name} says nothing there")
    if recorded:
        raise UserError("an autoregressive run has no reverse process to replay: leave out --trace")
