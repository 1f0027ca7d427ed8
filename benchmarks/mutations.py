"""Mutation testing: makes small changes of the code, one at a time, and checks that tests of the same room fail.

    python -m benchmarks.mutations --output=benchmarks/results/mutations.md
    python -m benchmarks.mutations --rooms=objectives --changes=40 --near      (the nearest tests only)
    python -m benchmarks.mutations --again=survived                            (survivors again, e.g. with new tests)

--seed draws --changes changes, evenly over rooms and kinds: an operator, a comparison or a constant is replaced, a term
or a bound is removed, two arguments are swapped, a random key is used twice, a check is skipped. Each change is made in
a copy of the tree. The tests of its room then run until the first failure (*killed*), to the end (*survived*), or for
--limit seconds (*late*: an endless loop, or a machine that is too slow). Every result is written to --record at once,
so a run that was stopped can continue, and a larger --changes adds to the results. If a change survives, either a test
is missing or the changed code is equivalent.

To be run by hand, not in CI: it takes minutes for a room and hours for all. Existing tools do not fit: cosmic-ray (8.7)
runs the same test command for every changed file, and changes neither random keys nor arguments; mutmut (3.8) skips
decorated functions, and forks processes that have already imported the tested code and started JAX's threads.
"""

import collections
import difflib
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from absl import flags

from benchmarks.changes import changes_of
from semdlm_jax import cli
from semdlm_jax.errors import UserError, choose

ROOT = pathlib.Path(__file__).parents[1]
# room -> (files that are changed, or one function of a file; places of tests that should notice)
ROOMS = {
    "kernels": ("semdlm_jax/kernels/*.py", "tests/kernels tests/objectives/test_bound.py"),
    "objectives": ("semdlm_jax/objectives/*.py", "tests/objectives"),
    "samplers": ("semdlm_jax/samplers/*.py", "tests/samplers"),
    "evaluation": ("semdlm_jax/evaluation/*.py", "tests/evaluation"),
    "network": ("semdlm_jax/network/*.py", "tests/network"),
    "training": (
        "semdlm_jax/train_step.py:make_train_step semdlm_jax/runtime/state.py",
        "tests/objectives/test_objectives_train_step.py tests/runtime/test_runtime_state.py",
    ),
}


def files_of(room):
    """[(path below ROOT, its text, the one function that is changed or '')] of a room."""
    found = []
    for place in ROOMS[room][0].split():
        pattern, _, function = place.partition(":")
        found += [(str(path.relative_to(ROOT)), path.read_text(), function) for path in sorted(ROOT.glob(pattern))]
    return found


def tests_of(room, changed, near=False):
    """The test files of a room. Files whose names contain the name of the changed file come first, because the first
    failure ends a run.

    near: only those files, if there are any.
    """
    places = [ROOT / place for place in ROOMS[room][1].split()]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.glob("test_*.py")))]
    named = [file for file in files if pathlib.Path(changed).stem in file.stem]
    others = [] if near and named else [file for file in files if file not in named]
    return [str(file.relative_to(ROOT)) for file in named + others]


def _named(path, source, function):
    """[(name, Change)] of a file; equal changes of equal lines are counted."""
    seen = collections.Counter()
    for change in changes_of(path, source, function):
        name = change.name(source)
        seen[name] += 1
        yield f"{name}.{seen[name]}", change


def _shuffled(found, seed):
    """In turn one of every kind, as most are constants; by hashes, so that what is drawn stays so as code is added."""
    found = sorted(found, key=lambda x: hashlib.sha256(f"{seed} {x[1]}".encode()).digest())
    turns, ordered = collections.Counter(), []
    for x in found:
        turns[x[2].kind] += 1
        ordered.append((turns[x[2].kind], x))
    return [x for _, x in sorted(ordered, key=lambda pair: pair[0])]


def draw(rooms, count, seed):
    """[(room, name, Change)]: `count` of them, room after room in turn; a larger count only adds to a smaller one's."""
    queues = []
    for room in rooms:
        queues.append(_shuffled([(room, *named) for file in files_of(room) for named in _named(*file)], seed))
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    return turns[:count]


def copy_tree(folder):
    """What git tracks or would track, as it lies here."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def run_tests(folder, tests, limit, options=()):
    """('killed', the failed test), ('survived', '') or ('late', '')."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / ".compiled"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    cache |= {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}  # what a change leaves as it was compiles once
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"} | cache
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *options, *tests]
    try:
        run = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return "late", ""
    failed = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if run.returncode == 0:
        return "survived", ""
    return "killed", (failed[0].split(" - ")[0] if failed else f"pytest ended with {run.returncode}")


def check_unchanged(folder, drawn, near, options):
    """UserError unless the tests pass as they are; compiles for the runs that follow what no change touches."""
    tests = dict.fromkeys(test for room, _, change in drawn for test in tests_of(room, change.path, near))
    since = time.monotonic()
    if tests and run_tests(folder, tests, None, options) != ("survived", ""):
        raise UserError("tests fail without any change: mend them first")
    print(f"unchanged: {len(tests)} files of tests in {time.monotonic() - since:.0f} s", flush=True)


def run_all(drawn, record, *, limit, near, options, again):
    """Runs what the record does not hold yet, or holds with a result in `again`."""
    known = read_record(record)
    todo = [x for x in drawn if x[1] not in known or known[x[1]]["result"] in again]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        copy_tree(folder)
        check_unchanged(folder, todo, near, options)
        for index, (room, name, change) in enumerate(todo):
            source = (folder / change.path).read_text()  # not the tree's, which may be worked on
            (folder / change.path).write_text(change.apply(source))
            since = time.monotonic()
            result, by = run_tests(folder, tests_of(room, change.path, near), limit, options)
            (folder / change.path).write_text(source)
            row = {"name": name, "room": room, "result": result, "by": by, "seconds": round(time.monotonic() - since)}
            with record.open("a") as file:
                file.write(json.dumps(row | change._asdict()) + "\n")
            print(f"{index + 1}/{len(todo)} {change.path}:{change.line} {change.kind}: {result} {by}", flush=True)


def read_record(record):
    """{name: the last row of that change}."""
    rows = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    return {row["name"]: row for row in rows}


def report(drawn, known):
    """Markdown: a table of rooms, and every change that no test noticed."""
    counts = collections.Counter((room, known[name]["result"]) for room, name, _ in drawn if name in known)
    rooms = dict.fromkeys(room for room, *_ in drawn)
    lines = ["| room | drawn | run | killed | survived | late |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for room in rooms:
        numbers = [counts[room, result] for result in ("killed", "survived", "late")]
        total = sum(x[0] == room for x in drawn)
        lines.append(f"| {room} | {total} | {sum(numbers)} | " + " | ".join(map(str, numbers)) + " |")
    for _, name, change in drawn:
        if name in known and known[name]["result"] != "killed":
            source = (ROOT / change.path).read_text()
            two = (text.splitlines() for text in (source, change.apply(source)))
            diff = [line for line in difflib.unified_diff(*two, lineterm="", n=0) if line[:3] not in ("---", "+++")]
            lines += ["", f"`{change.path}:{change.line}` ({change.kind}, {known[name]['result']})", "", "```diff"]
            lines += [*diff[1:], "```"]
    return "\n".join(lines) + "\n"


def main(values):
    rooms = values.rooms or list(ROOMS)
    for room in rooms:
        choose("room", room, ROOMS)
    record = pathlib.Path(values.record)
    record.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw(rooms, values.changes, values.seed)
    options = ["-k", values.select] if values.select else []
    run_all(drawn, record, limit=values.limit, near=values.near, options=options, again=values.again)
    text = report(drawn, read_record(record))
    print(text)
    if values.output:
        pathlib.Path(values.output).write_text(text)


if __name__ == "__main__":
    flags.DEFINE_list("rooms", [], "of " + ", ".join(ROOMS) + "; none given: all")
    flags.DEFINE_integer("changes", 100, "to make in all, evenly over the rooms", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "of which are drawn")
    flags.DEFINE_float("limit", 900.0, "seconds for the tests of one change", lower_bound=1.0)
    flags.DEFINE_list("again", [], "results of the record to run once more: survived, late, killed")
    flags.DEFINE_bool("near", False, "only test files that have the changed file's name: a first pass")
    flags.DEFINE_string("select", None, "pytest's -k: only these tests")
    flags.DEFINE_string("record", "runs/mutations.jsonl", "a line for every change that has been run")
    flags.DEFINE_string("output", None, "a Markdown file for the table and the survivors")
    cli.run(lambda: main(flags.FLAGS))
