"""The PyTorch model that the speed is compared with is the Flax backbone, parameter for parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax.network import Denoiser

torch = pytest.importorskip("torch")
from benchmarks.torch_backbone import TorchBackbone, copy_parameters, make_torch_step  # noqa: E402

B, L, V = 3, 7, 19


@pytest.fixture(autouse=True)
def one_thread():
    """More threads than free cores wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _pair(**options):
    """A Denoiser, its parameters (none of them zero, as some begin) and its double in torch."""
    denoiser = Denoiser(V, width=16, layers=2, heads=2, condition_width=8, **options)
    draw = np.random.default_rng(0)
    shapes = jax.eval_shape(denoiser.init, jax.random.key(0))
    params = jax.tree.map(lambda x: 0.2 * draw.standard_normal(x.shape, np.float32), shapes)
    module = TorchBackbone(denoiser)
    copy_parameters(params, module)
    return denoiser, params, module


@pytest.mark.parametrize("tied_output, time_conditioning", [(True, True), (False, True), (False, False)])
def test_same_logits_and_gradients(tied_output, time_conditioning):
    denoiser, params, module = _pair(tied_output=tied_output, time_conditioning=time_conditioning)
    tokens = np.random.default_rng(1).integers(0, V, (B, L))
    t = np.array([0.0, 0.3, 1.0], np.float32)

    @jax.jit
    def loss_and_logits(params):
        logits = denoiser.apply(params, tokens, t)
        return -jnp.mean(jax.nn.log_softmax(logits)[..., 0]), logits

    grads, expected = jax.grad(loss_and_logits, has_aux=True)(params)
    logits = module(torch.from_numpy(tokens), torch.from_numpy(t))
    np.testing.assert_allclose(logits.detach(), expected, rtol=1e-4, atol=1e-4)
    (-torch.log_softmax(logits, -1)[..., 0].mean()).backward()
    expected = TorchBackbone(denoiser)
    copy_parameters(grads, expected)
    for (name, value), (_, of_flax) in zip(module.named_parameters(), expected.named_parameters(), strict=True):
        np.testing.assert_allclose(value.grad, of_flax.detach(), rtol=1e-3, atol=1e-5, err_msg=name)


def test_a_missing_parameter_is_refused():
    denoiser, params, module = _pair()
    with pytest.raises(RuntimeError, match="output_bias"):
        copy_parameters({name: value for name, value in params.items() if name != "output_bias"}, module)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_step_learns(dtype):
    _, _, module = _pair(dropout=0.1)
    tokens = np.zeros((B, L), np.int32)
    options = {"learning_rate": 1e-2, "b1": 0.9, "b2": 0.95, "eps": 1e-8, "weight_decay": 0.0}
    step = make_torch_step(module, tokens, dtype, **options, clip_norm=1.0, ema_decay=0.99)
    losses = [step() for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
