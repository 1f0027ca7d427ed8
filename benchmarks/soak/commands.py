"""Bad command lines: each must give one sentence and exit status 2, and write nothing."""

import random

from benchmarks.command_lines import cases
from benchmarks.soak.ground import Fault, Ground, Outcome, Worker, fault_of


def soak(ground: Ground, count: int, seed: int) -> Outcome:
    """Runs at most `count` of the cases made from the table of options."""
    outcome, folder = Outcome("command lines"), ground.folder / "cases"
    folder.mkdir()
    drawn = list(cases(ground.config, folder))
    random.Random(seed).shuffle(drawn)
    worker, before = Worker(ground), set(ground.folder.rglob("*"))
    for case in drawn[:count]:
        if ground.late():
            break
        result = worker.run(case.module, *case.arguments)
        after = set(ground.folder.rglob("*"))
        fault = fault_of(result, allowed=())
        if not fault and result.status != 2:
            fault = f"status {result.status}"
        if not fault and case.word not in result.err:
            fault = f"does not speak of {case.word}: {result.err[-300:]}"
        if after != before:
            fault = f"{fault or ''} wrote {sorted(map(str, after ^ before))[:3]}"
        if fault:
            outcome.faults.append(Fault(str(case)[:300], str(seed), fault))
        before, outcome.done = after, outcome.done + 1
    worker.close()
    outcome.notes = [f"{outcome.done} of the {len(drawn)} that the table of options gives."]
    return outcome
