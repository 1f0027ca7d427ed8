"""The theory of the SemDLM+ paper (sections 3 and 4, appendices B and D), computed.

`survey` and `steps` find the quantities of any kernel under a data prior, `claims` has the paper's propositions with
numbers that confirm or refute them, and `python -m semdlm_jax.theory` prints both.
"""

from semdlm_jax.theory.chains import Exposure, exposure
from semdlm_jax.theory.clusters import Amplification, amplification
from semdlm_jax.theory.decomposition import ErrorTerms, bias_and_variance, error_terms
from semdlm_jax.theory.difficulty import Geometry, dispersion, geometry
from semdlm_jax.theory.enumeration import as_prior, forward_matrix, posterior, reverse_matrix, reverse_rows
from semdlm_jax.theory.gradients import GradientVariance, gradient_variance
from semdlm_jax.theory.quantities import Steps, Survey, steps, survey, time_quadrature
from semdlm_jax.theory.repair import contraction, pair_contraction, refresh_mass, shared_mass

__all__ = [
    "Amplification",
    "ErrorTerms",
    "Exposure",
    "Geometry",
    "GradientVariance",
    "Steps",
    "Survey",
    "amplification",
    "as_prior",
    "bias_and_variance",
    "contraction",
    "dispersion",
    "error_terms",
    "exposure",
    "forward_matrix",
    "geometry",
    "gradient_variance",
    "pair_contraction",
    "posterior",
    "refresh_mass",
    "reverse_matrix",
    "reverse_rows",
    "shared_mass",
    "steps",
    "survey",
    "time_quadrature",
]
