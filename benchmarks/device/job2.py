"""Job 2: the systems of job 1 with the other losses, so that each is compared with its best one.

Weights of losses matter as much as noise does at this budget. Job 1 has SemDLM+ and its relatives with the plain
cross-entropy and the others with their authors' weights; this job has the others with the plain cross-entropy, and the
relatives with the bound, its times drawn as benchmarks/results/quickstart.md found best.
Command, carried data, file of results and table are those of job 1, with job2 for job1.
"""

from benchmarks.device import runner, wiki

PLAIN = "+objective.name=denoising"
BOUND = "+objective.name=nelbo+objective.time_power=2"
SYSTEMS = (
    *(system + PLAIN for system in ("mdlm", "hdlm", "udlm", "gidd")),
    *(system + BOUND for system in ("semdlm_nested", "semdlm_nested_mask", "semdlm_plus")),
)

if __name__ == "__main__":
    runner.start("wiki", SYSTEMS, wiki.STEPS)
