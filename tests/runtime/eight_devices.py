"""Run by test_runtime_mesh on 8 simulated devices: shardings, an update under them, a restore onto another mesh."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from semdlm_jax.errors import UserError
from semdlm_jax.runtime.checkpoints import Checkpointer
from semdlm_jax.runtime.mesh import (
    check_batch,
    local_rows,
    make_mesh,
    place_batch,
    place_local,
    shardings_from_rules,
)
from semdlm_jax.runtime.optimizer import AdamW, Muon
from semdlm_jax.runtime.paths import path_text
from semdlm_jax.runtime.state import abstract_state, apply_update, create_state

RULES = (
    ("mlp/up/kernel$", P(None, "fsdp", "tensor")),
    ("kernel$", P(None, ("data", "fsdp"))),
    ("embedding$", P("tensor", None)),
    ("", P("fsdp")),
)


def init(key):
    keys = jax.random.split(key, 4)
    return {
        "blocks": {
            "mlp": {"up": {"kernel": jax.random.normal(keys[0], (3, 8, 16))}},
            "attention": {"out": {"kernel": jax.random.normal(keys[1], (3, 8, 8))}},
        },
        "embed": {"embedding": jax.random.normal(keys[2], (7, 8))},
        "output": {"bias": jax.random.normal(keys[3], (8,))},
    }


def specs(tree, name):
    """The PartitionSpec of every leaf whose path contains `name`, without trailing Nones."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    found = [leaf.sharding.spec for path, leaf in leaves if name in path_text(path)]
    return [P(*spec[: max((i + 1 for i, axes in enumerate(spec) if axes), default=0)]) for spec in found]


def placed_on(mesh):
    return functools.partial(shardings_from_rules, mesh=mesh, rules=RULES)


def updated(mesh, optimizer):
    """The state after two updates on `mesh`."""
    state = create_state(init, optimizer, jax.random.key(0), placed_on(mesh))
    update = jax.jit(functools.partial(apply_update, optimizer=optimizer, ema_decay=0.9), donate_argnums=0)
    for _ in range(2):
        state = update(state, jax.tree.map(jnp.sin, state.params))
    return state


def main(folder):
    mesh = make_mesh(2, -1, 2)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    try:
        check_batch(8, 4, mesh)
        raise AssertionError("8 rows cannot be 4 microbatches over 4 shards")
    except UserError as error:
        assert "multiple of 16" in str(error), error
    check_batch(16, 4, mesh)

    rows = np.arange(24).reshape(8, 3)
    np.testing.assert_array_equal(local_rows(8, mesh), np.arange(8))
    for placed in (place_batch({"tokens": rows}, mesh), place_local({"tokens": rows}, 8, mesh)):
        assert {shard.data.shape for shard in placed["tokens"].addressable_shards} == {(2, 3)}
        np.testing.assert_array_equal(placed["tokens"], rows)

    # Parameter, average and both moments follow the same rule; 7 rows do not divide over 2: replicated.
    shapes = abstract_state(init, AdamW().build(lambda step: 0.1), placed_on(mesh))
    assert specs(shapes, "mlp/up/kernel") == [P(None, "fsdp", "tensor")] * 4
    assert specs(shapes, "attention/out/kernel") == [P(None, ("data", "fsdp"))] * 4
    assert specs(shapes, "embed/embedding") == [P()] * 4
    assert specs(shapes, "output/bias") == [P("fsdp")] * 4
    assert shapes.step.sharding.is_fully_replicated

    # The layout changes no number, and a checkpoint of one mesh lands on another.
    optimizer = Muon(weight_decay=0.1).build(lambda step: 0.1)
    state, single = updated(mesh, optimizer), updated(make_mesh(1, 1, 1, jax.devices()[:1]), optimizer)
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(single)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    checkpointer = Checkpointer(folder)
    checkpointer.save(2, state)
    elsewhere = abstract_state(init, optimizer, placed_on(make_mesh(1, 8, 1)))
    restored, _ = checkpointer.restore(elsewhere)
    checkpointer.close()
    for saved, leaf, wanted in zip(*map(jax.tree.leaves, (state, restored, elsewhere))):
        np.testing.assert_array_equal(leaf, saved)
        assert leaf.sharding == wanted.sharding


if __name__ == "__main__":
    main(sys.argv[1])
