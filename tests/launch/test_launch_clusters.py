"""The scripts for clusters, with programs of the test's own in the place of the cluster's."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from benchmarks.tiny_run import command

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted(path for path in LAUNCH.iterdir() if path.suffix in (".sh", ".sbatch"))
ARGUMENTS = ["--config=lm1b", "--workdir=runs/with space", "--wandb=it's mine", "--config.data.corpus=text:a/*.txt"]
TRAINER = ["python", "-m", "semdlm_jax.train"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_and_short(path):
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    if shutil.which("shellcheck"):
        assert subprocess.run(["shellcheck", "--shell=bash", "--severity=warning", path]).returncode == 0
    assert len(path.read_text().splitlines()) <= 40


def assert_understood(arguments):
    """The trainer's own flags: it complains of the one that is added here, and only after it has read all of them."""
    result = command("train", *arguments, "--config.training.steps=0")
    assert (result.status, result.out) == (2, "") and len(result.err.splitlines()) == 1, result
    assert "error: training.steps = 0" in result.err, result


@pytest.fixture
def programs(tmp_path):
    """A function (names, then what each does, in bash) -> the environment in which they are found first."""

    def make(**bodies):
        for name, body in bodies.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
            (tmp_path / name).chmod(0o755)
        return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SAID": str(tmp_path / "said")}

    return make


SAY = r"""printf '%s\0' "$0" "$@" >> "$SAID"; printf '\n' >> "$SAID" """


def said(environment):
    """[(program, its arguments)] of all that ran, in order."""
    lines = Path(environment["SAID"]).read_text().removesuffix("\n").split("\0\n")
    return [(Path(name).name, rest) for name, *rest in (line.removesuffix("\0").split("\0") for line in lines)]


@pytest.mark.parametrize(
    "status, state, again",
    [
        (75, "RUNNING", True),
        (75, "CANCELLED", False),
        (75, "PENDING", False),
        (0, "RUNNING", False),
        (2, "RUNNING", False),
    ],
)
def test_slurm(programs, tmp_path, status, state, again):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").touch()
    environment = programs(srun=f"{SAY}; exit {status}", squeue=f"echo {state}", scontrol=SAY)
    environment |= {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(tmp_path), "VENV": str(tmp_path / "venv")}
    done = subprocess.run(["bash", LAUNCH / "slurm.sbatch", *ARGUMENTS], env=environment)
    assert done.returncode == status
    (name, ran), *requeued = said(environment)
    assert name == "srun" and ran == [*TRAINER, "--stop_status=75", *ARGUMENTS]
    assert requeued == [("scontrol", ["requeue", "7"])] * again
    if again:
        assert_understood(ran[len(TRAINER) :])


def test_slurm_is_asked_for_a_process_for_each_gpu_and_for_a_warning():
    found = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", (LAUNCH / "slurm.sbatch").read_text(), re.MULTILINE))
    assert found["ntasks-per-node"] == found["gpus-per-node"]  # JAX gives each process the GPU of its number
    assert found["signal"] == "TERM@120" and "requeue" in found and found["open-mode"] == "append"
    assert found.keys() <= {
        *("job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time"),
        *("signal", "requeue", "open-mode", "output"),
    }


def test_tpu_vm(programs, tmp_path):
    environment = programs(gcloud=SAY, python=SAY, pip=SAY, git=SAY) | {"TPU": "slice", "ZONE": "zone"}
    environment |= {"PYTHON": "python"}
    script = LAUNCH / "tpu_vm.sh"
    for action in (["setup", "https://host/a b.git"], ["train", *ARGUMENTS], ["log"], ["stop"]):
        assert subprocess.run(["bash", script, *action], env=environment).returncode == 0
    setup, train, log, stop = calls = said(environment)
    common = ["compute", "tpus", "tpu-vm", "ssh", "slice", "--zone=zone"]
    for (name, arguments), worker in zip(calls, ("all", "all", "0", "all"), strict=True):
        assert (name, arguments[:-1]) == ("gcloud", [*common, f"--worker={worker}"])
        assert arguments[-1].startswith("--command=")
    Path(environment["SAID"]).unlink()

    # What each host would do.
    (tmp_path / "host" / "venv" / "bin").mkdir(parents=True)
    for name in ("python", "pip"):
        shutil.copy(tmp_path / name, tmp_path / "host" / "venv" / "bin" / name)
    for _, arguments in (setup, train):
        text = arguments[-1].removeprefix("--command=") + "\nwait"
        done = subprocess.run(["bash", "-c", text], cwd=tmp_path / "host", env=environment, capture_output=True)
        assert done.returncode == 0, done
    cloned, made, installed, ran = said(environment)
    assert cloned == ("git", ["clone", "https://host/a b.git", "semdlm_jax"])
    assert made == ("python", ["-m", "venv", "venv"])
    assert installed == ("pip", ["install", "--quiet", "jax[tpu]", "./semdlm_jax[run,gcs]"])
    assert ran == ("python", [*TRAINER[1:], *ARGUMENTS])
    assert_understood(ran[1][2:])
    assert (tmp_path / "host" / "train.log").exists() and "train.log" in log[1][-1]
    pattern = shlex.split(stop[1][-1])[-1]
    assert re.search(pattern, " ".join(ran[1])) and not re.search(pattern, stop[1][-1])  # itself it leaves alone
    refused = subprocess.run(["bash", script, "other"], env=environment, capture_output=True, text=True)
    assert refused.returncode == 2 and "give setup" in refused.stderr
    del environment["ZONE"]
    refused = subprocess.run(["bash", script, "log"], env=environment, capture_output=True, text=True)
    assert refused.returncode != 0 and "give its zone" in refused.stderr


def test_kubernetes():
    jobset = yaml.safe_load((LAUNCH / "kubernetes.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (replicated,) = jobset["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    assert job["completionMode"] == "Indexed" and job["completions"] == job["parallelism"]
    pod = job["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    assert pod["restartPolicy"] == "Never" and job["backoffLimit"] == 0  # all start again together, or none
    assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"]]

    # Stopping is no success, and starts all again.
    (rule,) = job["podFailurePolicy"]["rules"]
    exits = rule["onExitCodes"]
    assert (rule["action"], exits["operator"], exits["containerName"]) == ("FailJob", "In", container["name"])
    assert container["command"] == [*TRAINER, *(f"--stop_status={status}" for status in exits["values"])]
    assert jobset["spec"]["failurePolicy"]["rules"] == [
        {"action": "RestartJobSetAndIgnoreMaxRestarts", "onJobFailureReasons": ["PodFailurePolicy"]}
    ]

    # The name that a JobSet gives its first pod, at a port that the pod opens.
    (index,) = container["env"]
    path = index["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    given = dict(argument.removeprefix("--").split("=") for argument in container["args"])
    host = f"{jobset['metadata']['name']}-{replicated['name']}-0-0.{jobset['metadata']['name']}"
    assert given["coordinator_address"] == f"{host}:{container['ports'][0]['containerPort']}"
    assert given["num_processes"] == str(job["completions"]) and given["process_id"] == f"$({index['name']})"
    for key in ("workdir", "config.data.directory"):
        assert given[key].startswith(container["volumeMounts"][0]["mountPath"] + "/")
    arguments = [argument.replace(f"$({index['name']})", "3") for argument in container["args"]]
    assert_understood([*container["command"][len(TRAINER) :], *arguments])
