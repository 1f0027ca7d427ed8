"""Run by test_collectives on 8 simulated devices: collectives whose bytes are known by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.collectives import HARDWARE, between_nodes, collectives, compiled_step, seconds
from semdlm_jax.experiment import defaults
from semdlm_jax.runtime.mesh import make_mesh


def counted(function, *arrays):
    """{kind: bytes that a device sends} of a function, compiled."""
    found = {}
    for one in collectives(jax.jit(function).lower(*arrays).compile().as_text(), 8):
        found[one.kind] = found.get(one.kind, 0) + one.sent
    return found


def abstract(mesh, spec, *shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))


def trained_step():
    """Of a whole step, data parallelism sends its gradients once, whatever the rows and the chunks of the loss; where
    weights are shared, no more than these twice besides, and little that grows with the rows."""
    config = defaults.get_config()
    config.data.update(corpus="synthetic", vocab_size=64, length=16)
    config.kernel.k_max, config.objective.chunk = 4, 4
    config.network.update(width=64, layers=2, heads=8, condition_width=8, dtype="float32")
    sent = {}
    for rows, *sizes in ((32, 8, 1, 1), (32, 1, 8, 1), (64, 1, 8, 1)):
        config.training.batch_size = rows
        program, parameters = compiled_step(config, sizes)
        sent[rows, *sizes] = sum(one.sent for one in collectives(program, 8))
    gradients = 7 / 8 * 4 * parameters  # a sum is twice this, a gathering once
    assert 0 <= sent[32, 8, 1, 1] - 2 * gradients < 1000, (sent, gradients)
    assert 2 * gradients < sent[32, 1, 8, 1] < 4.1 * gradients, (sent, gradients)
    assert sent[64, 1, 8, 1] - sent[32, 1, 8, 1] < 0.05 * gradients, (sent, gradients)


def main():
    trained_step()
    mesh = make_mesh(4, 2, 1)

    # Data parallelism: a ring sends 2 (n - 1) / n of the bytes of the parameters, [16, 32] in float32, and no more
    # than the loss besides. Inside a loop this happens in every turn.
    def loss(w, x):
        return jnp.sum((x @ w) ** 2)

    both, rows = ("data", "fsdp"), P(("data", "fsdp"))
    w, x = abstract(mesh, P(), 16, 32), abstract(mesh, rows, 64, 16)
    kept = NamedSharding(mesh, P())
    once = counted(lambda w, x: jax.lax.with_sharding_constraint(jax.grad(loss)(w, x), kept), w, x)
    assert once == {"all-reduce": 2 * 7 / 8 * 4 * 16 * 32}, once

    def trained(w, x):
        def turn(w, _):
            return jax.lax.with_sharding_constraint(w - 1e-3 * jax.grad(loss)(w, x), kept), None

        return jax.lax.scan(turn, w, None, length=5)[0]

    assert counted(trained, w, x) == {"all-reduce": 5 * once["all-reduce"]}

    # Each kind, written out: over 8 devices, over the 4 of data and over the 2 of fsdp.
    def manual(body, spec, out):
        return functools.partial(jax.shard_map, mesh=mesh, in_specs=spec, out_specs=out, check_vma=False)(body)

    y = abstract(mesh, rows, 64, 16)  # 8 x 16 numbers on a device: 512 bytes
    for axes, n in ((both, 8), ("data", 4), ("fsdp", 2)):
        for body, out, wanted in (
            (lambda y, axes=axes: jax.lax.psum(y, axes), rows, {"all-reduce": 2 * (n - 1) / n * 512}),
            (lambda y, axes=axes: jax.lax.all_gather(y, axes), P(None, both), {"all-gather": (n - 1) * 512}),
            (
                lambda y, axes=axes: jax.lax.psum_scatter(y, axes, tiled=True),
                rows,
                {"reduce-scatter": (n - 1) / n * 512},
            ),
            (
                lambda y, axes=axes: jax.lax.all_to_all(y, axes, 0, 1, tiled=True),
                P(both, None),
                {"all-to-all": (n - 1) / n * 512},
            ),
            (
                lambda y, axes=axes, n=n: jax.lax.ppermute(y, axes, [(i, (i + 1) % n) for i in range(n)]),
                rows,
                {"collective-permute": 512},
            ),
        ):
            found = counted(manual(body, rows, out), y)
            assert found == wanted, (axes, found, wanted)

    # A ring of data leaves a node of two devices, one of fsdp does not.
    for axes, away in (("data", True), ("fsdp", False)):
        body = manual(lambda y, axes=axes: jax.lax.psum(y, axes), rows, rows)
        (one,) = collectives(jax.jit(body).lower(y).compile().as_text(), 8)
        groups = {tuple(group) for group in one.groups.tolist()}
        pairs = {(0, 1), (2, 3), (4, 5), (6, 7)}
        assert groups == ({(0, 2, 4, 6), (1, 3, 5, 7)} if away else pairs), groups
        hardware = HARDWARE["h100"]._replace(node=2)
        assert between_nodes(one, hardware) == away
        np.testing.assert_allclose(seconds([one], hardware), one.sent / (hardware.slow if away else hardware.fast))


if __name__ == "__main__":
    main()
