"""Training never waits for data: rows are made at 20 times the speed, and more, at which two cores train on them."""

import time

import pytest

from benchmarks import data


@pytest.mark.parametrize("protocol", data.protocols.PROTOCOLS)
def test_rows_are_made_much_faster_than_they_are_used(protocol):
    """On one core, by processor time; the quickstart trains on about 20,000 tokens a second."""
    draw, tokens = data.rows_a_turn(protocol, *data.SHAPES["quickstart"])
    speeds = []
    for _ in range(3):
        begun = time.process_time()
        draw()
        speeds.append(tokens / (time.process_time() - begun))
    assert max(speeds) > 20 * 20_000, speeds
