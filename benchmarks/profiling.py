"""Finds where a compiled JAX function spends its time: joins profiler events with the text of the program.

XLA names its ops by the compiler's pass (`add_bitcast_fusion.17`). The program text says which line of Python each came
from, so ops that differ only in a number, as those of unrolled layers do, add up under one name.
"""

import collections
import pathlib
import re
import shutil
import tempfile
from typing import NamedTuple

import jax

_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = .*?metadata=\{(.*?)\}")
# Parts of an op's path that say how JAX transformed the program, not where the op came from.
_NOISE = re.compile(
    r"(jit|jvp|transpose|vmap)\(.*\)|while|body|cond|closed_call|checkpoint|rematted_computation|Backbone\.\w+"
)
_PROJECT = "semdlm_jax"


class Row(NamedTuple):
    """A group of ops. calls and milliseconds: a run's. direction: 'forward', 'backward' or ''. source: file:line
    name."""

    milliseconds: float
    calls: float
    direction: str
    source: str
    op: str


def profile_ops(run, program_text, repeats=3, keep=None):
    """A list of Row, slowest first, of what `run()` executes; it must block until its result is ready.

    Times are those of the thread or the stream that ran an op. On a CPU, pin the process to one core (taskset -c 0)
    before comparing them; on a GPU, XLA_FLAGS=--xla_gpu_enable_command_buffer= lets every op have an event of its own.

    Args:
        run: a function ().
        program_text: compiled.as_text() of the function that run calls.
        repeats: calls that are measured.
        keep: the beginning of two files' names, .xplane.pb and .hlo.txt, for `read_ops`; None: nothing is kept.
    """
    run()
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            for _ in range(repeats):
                run()
        (path,) = pathlib.Path(directory).rglob("*.xplane.pb")
        if keep:
            shutil.copy(path, f"{keep}.xplane.pb")
            pathlib.Path(f"{keep}.hlo.txt").write_text(program_text)
        return read_ops(path, program_text, repeats)


def read_ops(path, program_text, repeats):
    """What `profile_ops` returns, from a file that the profiler wrote."""
    spent = _self_times(jax.profiler.ProfileData.from_file(str(path)))
    origins = _origins(program_text)
    groups = collections.defaultdict(lambda: [0.0, 0])
    for op, (nanoseconds, calls) in spent.items():
        kind = re.sub(r"[.\d]+(\.clone|\.remat|[.\d])*$", "", op)
        group = groups[*origins.get(op, ("", "", "")), kind]
        group[0] += nanoseconds / 1e6 / repeats
        group[1] += calls / repeats
    rows = [
        Row(milliseconds, calls, direction, source, f"{path} [{kind}]" if path else f"[{kind}]")
        for (direction, source, path, kind), (milliseconds, calls) in groups.items()
    ]
    return sorted(rows, key=lambda row: -row.milliseconds)


def format_table(rows, top=25):
    """The `top` slowest groups as lines of text, with the total and what is left out."""
    total = sum(row.milliseconds for row in rows)
    lines = [f"{'ms':>8} {'share':>6} {'calls':>6}  {'pass':8} {'source':34} op"]
    for row in rows[:top]:
        share = row.milliseconds / total
        cost = f"{row.milliseconds:8.2f} {share:6.1%} {row.calls:6.0f}"
        lines.append(f"{cost}  {row.direction:8} {row.source:34} {row.op}")
    rest = sum(row.milliseconds for row in rows[top:])
    lines.append(f"{rest:8.2f} {rest / total:6.1%}         the other {len(rows[top:])} groups; {total:.1f} ms in all")
    return lines


def _self_times(profile):
    """{op: [nanoseconds, calls]}, each event without those it contains (a loop contains its body)."""
    spent = collections.defaultdict(lambda: [0.0, 0])
    for plane in profile.planes:
        for line in plane.lines:
            open_events = []  # (end, op) of the events around the present one
            for event, op in sorted(_ops(plane, line), key=lambda e: (e[0].start_ns, -e[0].duration_ns)):
                while open_events and open_events[-1][0] <= event.start_ns:
                    open_events.pop()
                if open_events:
                    spent[open_events[-1][1]][0] -= event.duration_ns
                spent[op][0] += event.duration_ns
                spent[op][1] += 1
                open_events.append((event.start_ns + event.duration_ns, op))
    return spent


def _ops(plane, line):
    """The events of a line that are ops of the program, each with its name there. On a GPU these are the kernels and
    copies of its streams; one that no op of the program is named for, such as a graph, keeps its own name."""
    of_gpu = plane.name.startswith("/device:GPU")
    if of_gpu and not line.name.startswith("Stream"):
        return
    for event in line.events:
        op = dict(event.stats).get("hlo_op") or (event.name if of_gpu else None)
        if op:
            yield event, op


def _origins(program_text):
    """{op: ('forward', 'backward' or '', 'file.py:line function', its path of module names)} of every instruction."""
    frames = _frames(program_text)
    found = {}
    for line in program_text.splitlines():
        match = _INSTRUCTION.match(line)
        if not match:
            continue
        name = re.search(r'op_name="([^"]*)"', match[2])
        name = name[1] if name else ""
        direction = "backward" if "transpose(" in name else "forward" if "jvp(" in name else ""
        frame = re.search(r"stack_frame_id=(\d+)", match[2])
        path = "/".join(part for part in name.split("/") if not _NOISE.fullmatch(part))
        found[match[1]] = (direction, frames.get(frame[1], "") if frame else "", path)
    return found


def _frames(program_text):
    """{stack frame id: 'file.py:line function'} of the innermost frame inside the project, '' when there is none."""
    section, tables = None, collections.defaultdict(dict)
    for line in program_text.splitlines():
        if line in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
            section = line
        elif not line:
            section = None
        elif section:
            number, _, rest = line.partition(" ")
            names = section.endswith("Names")
            tables[section][number] = rest.strip('"') if names else dict(re.findall(r"(\w+)=(\d+)", rest))

    def describe(number):
        while number in tables["StackFrames"]:
            frame = tables["StackFrames"][number]
            place = tables["FileLocations"][frame["file_location_id"]]
            path = pathlib.Path(tables["FileNames"][place["file_name_id"]])
            if _PROJECT in path.parts:
                function = tables["FunctionNames"][place["function_name_id"]]
                return f"{path.name}:{place['line']} {function.rpartition('.')[2]}"
            number = str(int(frame["parent_frame_id"]) - 1)  # the text counts from one, 1 being "no parent"
        return ""

    return {number: describe(number) for number in tables["StackFrames"]}
