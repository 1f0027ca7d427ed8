"""Learning rates of the tuned systems of Table 2: each at its configuration's and at others."""

from benchmarks.bakeoff import Entry, markdown
from benchmarks.paper.cells import Cell
from benchmarks.paper.likelihoods import bound
from benchmarks.paper.scales import Scale
from benchmarks.paper.systems import tuned
from semdlm_jax.evaluation.likelihood import with_error

NAME, TITLE = "rates", "Learning rates of the tuned systems"
SYSTEMS = ("mdlm", "gidd", "udlm", "hdlm", "semdlm_plus", "semdlm_nested", "semdlm_nested_mask")
OWN = "as the configuration has it"


def entries(scale: Scale) -> dict[tuple[str, str], Entry]:
    """{(system, learning rate): entry}."""
    found = {}
    for system in SYSTEMS:
        found[system, OWN] = tuned(system, scale)
        for rate in scale.learning_rates:
            found[system, f"{rate:g}"] = tuned(system, scale, f"optimizer.learning_rate={rate:g}")
    return found


def cells(scale: Scale, seeds: list[int]) -> list[Cell]:
    """Those of the first seed alone."""
    return [
        Cell(NAME, f"{entry.text}, seed {seeds[0]}, bound", entry, seeds[0], bound, scale.seconds[1])
        for entry in entries(scale).values()
    ]


def page(scale: Scale, seeds: list[int], lines: dict[str, dict]) -> str:
    """A row for each system, a column for each learning rate."""
    found = {
        place: lines.get(f"{entry.text}, seed {seeds[0]}, bound", {}).get("likelihood")
        for place, entry in entries(scale).items()
    }
    columns = [OWN, *(f"{rate:g}" for rate in scale.learning_rates)]
    rows = []
    for system in SYSTEMS:
        of = [found[system, column] for column in columns]
        shown = ["" if one is None else with_error(one["nelbo"], one["standard_error"], digits=3) for one in of]
        rows.append((system, *shown))
    told = (
        f"NELBO of the test split, nats per token, of the systems as Table 2 has them tuned, seed {seeds[0]}; ± over "
        "windows, mostly shared by a row."
    )
    return f"{told}\n\n{markdown(rows, ('system', *columns))}"
