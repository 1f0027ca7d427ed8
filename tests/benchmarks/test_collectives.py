"""The bytes that devices send, counted in compiled programs, against those known by hand."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.collectives import collectives


def test_bytes_known_by_hand():
    script = Path(__file__).with_name("counted_collectives.py")
    devices = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    paths = os.pathsep.join([str(script.parents[2]), *filter(None, sys.path)])
    environment = os.environ | {"XLA_FLAGS": devices, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "written, groups",
    [
        ("replica_groups={{0,2},{1,3}}", [[0, 2], [1, 3]]),
        ("replica_groups={}", [[0, 1, 2, 3]]),
        ("replica_groups=[2,2]<=[4]", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'b'}", [[0, 1], [2, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}", [[0, 2], [1, 3]]),
    ],
)
def test_every_way_to_write_groups(written, groups):
    program = f"ENTRY %main (p: f32[3]) -> f32[3] {{\n  %r = f32[3]{{0}} all-reduce(%p), {written}, to_apply=%add\n}}"
    (found,) = collectives(program, 4)
    np.testing.assert_array_equal(found.groups, groups)
    assert (found.kind, found.size, found.times) == ("all-reduce", 12, 1)


def test_a_loop_without_a_known_number_of_turns_is_told():
    program = """
%body (p: f32[3]) -> f32[3] {
  %r = f32[3]{0} all-reduce(%p), replica_groups={{0,1}}, to_apply=%add
}
ENTRY %main (p: f32[3]) -> f32[3] {
  %w = f32[3]{0} while(%p), condition=%cond, body=%body
}
"""
    with pytest.raises(ValueError, match="no known number"):
        collectives(program, 2)
    known = program.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"7"}}')
    assert collectives(known, 2)[0].sent == 7 * 12
