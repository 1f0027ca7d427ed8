"""The systems of the paper, each with its authors' loss and with the one that trains it best here.

Under the bound as its loss a system learns slowly at small budgets; a plain cross-entropy of the same network, with
masked text first where noise looks like text, does better (benchmarks/results/nested.md). Both are trained and shown.
"""

from benchmarks.bakeoff import Entry
from benchmarks.paper.scales import Scale

# Of each: a name, the system as its authors have it, and changes for the better; None: as they are. SEDD's score is
# trained by its own loss alone.
PLAIN, MASKED = "objective.name=denoising", "warmup.steps"
SYSTEMS = (
    ("autoregressive", "ar", None),
    ("D3PM, masks", "d3pm_absorbing", PLAIN),
    ("MDLM", "mdlm", PLAIN),
    ("SEDD, masks", "sedd_absorbing", None),
    ("D3PM, uniform", "d3pm_uniform", f"{PLAIN}+{MASKED}"),
    ("SEDD, uniform", "sedd_uniform", None),
    ("UDLM", "udlm", f"{PLAIN}+{MASKED}"),
    ("GIDD", "gidd", PLAIN),
    ("HDLM", "hdlm", f"{PLAIN}+objective.max_weight=0"),
    ("SemDLM, neighbors alone", "semdlm_knn", MASKED),
    ("SemDLM+", "semdlm_plus", MASKED),
    ("SemDLM+ with nested blocks", "semdlm_nested", MASKED),
    ("nested blocks and masks", "semdlm_nested_mask", MASKED),
)
AUTHORS, TUNED = "its authors'", "tuned"


def entry_of(system: str, changes: str | None, scale: Scale) -> Entry:
    """The entry of a system with changes, where `warmup.steps` alone stands for the scale's."""
    changes = (changes or "").replace(MASKED, f"{MASKED}={scale.masked_steps}")
    return Entry.parse("+".join(filter(None, (system, changes))))


def entries(scale: Scale) -> dict[tuple[str, str], Entry]:
    """{(name, AUTHORS or TUNED): entry}. The same entry for both where there is nothing to tune."""
    found = {}
    for name, system, changes in SYSTEMS:
        found[name, AUTHORS] = entry_of(system, None, scale)
        found[name, TUNED] = entry_of(system, changes, scale)
    return found


def tuned(system: str, scale: Scale, *changes: str) -> Entry:
    """The tuned entry of a system by its name in experiment/systems.py, with more changes."""
    known = next(entry for (_, kind), entry in entries(scale).items() if entry.system == system and kind == TUNED)
    return Entry.parse("+".join((known.text, *changes)))
