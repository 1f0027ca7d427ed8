"""What the network costs, by a formula."""

from semdlm_jax.network.backbone import Denoiser


def training_operations(denoiser: Denoiser, length: int) -> float:
    """Floating-point operations of a token in training, forward and backward, in rows of L = length tokens.

    6 (layers (4 + 2 expansion) D² + V D) + 12 layers L D: a multiplication and an addition for every weight of a matrix
    that a token meets, twice that in the backward pass, and the same for attention's two products with L positions,
    whether or not some are hidden. Left out, as is usual: embedding, norms, what is made of the time, the loss, and
    what is computed twice to save memory.
    """
    width, layers = denoiser.width, denoiser.layers
    weights = layers * (4 + 2 * denoiser.expansion) * width**2 + denoiser.vocab_size * width
    return 6.0 * weights + 12.0 * layers * length * width
