"""The changes that a mutation run makes."""

import ast

from benchmarks.changes import changes_of

SOURCE = '''
"""A comment: 1 + 1."""


def f(key, x: int = 3):
    """Nothing here is changed: 2 < 1."""
    keys = jax.random.split(key)
    if x < 0:
        raise ValueError("x = 1", f"{x + 1}")
    y = jnp.clip(-x * 2, 0, 1) if x in (1, 2) else g(x, key)
    return jnp.where(y and True, jax.random.fold_in(keys, 1), jnp.maximum(y, x))  # ± one
'''


def test_every_change_is_code_that_says_something_else():
    changes = changes_of("f.py", SOURCE)
    assert {change.kind for change in changes} == {
        "check never made",
        "comparison",
        "constant",
        "dropped bound",
        "dropped sign",
        "dropped term",
        "one key",
        "operator",
        "other call",
        "swapped arguments",
        "swapped cases",
    }
    for change in changes:
        assert SOURCE[change.start : change.end] == change.old
        assert ast.dump(ast.parse(change.apply(SOURCE))) != ast.dump(ast.parse(SOURCE))
        assert "comment" not in change.old and "changed" not in change.old and "ValueError" not in change.old
    found = {(change.kind, change.old, change.new) for change in changes}
    assert ("one key", "jax.random.fold_in(keys, 1)", "(keys)") in found
    assert ("check never made", "x < 0", "(False)") in found
    assert ("swapped arguments", "g(x, key)", "(g(key, x))") in found


def test_a_change_keeps_its_name_when_lines_move():
    moved = "import jax\n\n" + SOURCE
    assert [c.name(SOURCE) for c in changes_of("f.py", SOURCE)] == [c.name(moved) for c in changes_of("f.py", moved)]
    one = changes_of("f.py", SOURCE + "\n\ndef g(x):\n    return x + 1\n", function="g")
    assert {change.old for change in one} == {"x + 1", "1"}
