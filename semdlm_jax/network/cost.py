"""The cost of the network, by a formula."""

from semdlm_jax.network.backbone import Denoiser


def training_operations(denoiser: Denoiser, length: int) -> float:
    """Floating-point operations per token in training, forward and backward, in rows of L = length tokens.

    6 (layers (4 + 2 expansion) D² + V D) + 12 layers L D: a multiplication and an addition for every matrix weight,
    twice as many in the backward pass, and the same for the two products of attention with L positions, also if some
    are hidden. As usual, this does not include embedding, norms, the time embedding, the loss, and recomputation to
    save memory.
    """
    width, layers = denoiser.width, denoiser.layers
    weights = layers * (4 + 2 * denoiser.expansion) * width**2 + denoiser.vocab_size * width
    return 6.0 * weights + 12.0 * layers * length * width
