"""Job 1: eight systems after equal tokens of Wikipedia, each with the loss that experiment/systems.py gives it.

    python -m benchmarks.device.job1 --config=benchmarks/device/wiki.py --output=FOLDER

Carries: the prepared data (data/wiki, README.md). Installs: nothing. Writes: FOLDER/wiki.jsonl, a line a system as
soon as it is scored. One command takes at most --minutes (6); started again, on a fresh machine too, it goes on with
the systems that have no line in benchmarks/results/wiki.jsonl. `python -m benchmarks.device.table` makes the table.
On a CPU, to try it: --config=benchmarks/device/toy.py --steps=8 --test_tokens=2048 --minutes=60.
"""

from benchmarks.device import runner, wiki

SYSTEMS = ("mdlm", "semdlm_nested", "semdlm_plus", "hdlm", "udlm", "semdlm_nested_mask", "gidd", "ar")

if __name__ == "__main__":
    runner.start("wiki", SYSTEMS, wiki.STEPS)
