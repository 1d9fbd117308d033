"""Shares of a plan as a job array of a real Slurm, which these tests bring up on this machine."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
ABSENT = [name for name in PROGRAMS if shutil.which(name) is None]
IS_ROOT = sys.platform == "linux" and os.geteuid() == 0
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not IS_ROOT, reason="needs Linux, and root"),
    pytest.mark.skipif(
        bool(ABSENT), reason="needs the packages slurmctld, slurmd, slurm-client and munge"
    ),
]

# One node, with two pretend GPUs; no cgroups, and nothing in /etc.
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SchedulerParameters=batch_sched_delay=0
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=3
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=4000 Gres=gpu:2
PartitionName=tests Nodes=ALL Default=YES
"""
PARAMETERS = """out = ""  # where to
lesson = True  # to be read
seed = 0  # of all
wait = False  # while there is a file "hold"
"""
CODE = """
import os, time
from pathlib import Path
folder = Path({folder!r})
with open(folder / "attempts", "a") as file:
    print(seed, wait, os.environ.get("CUDA_VISIBLE_DEVICES"), file=file)
while wait and (folder / "hold").exists():
    time.sleep(0.1)
"""


def wait_for(condition, seconds=120):
    """What the condition returns once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise TimeoutError(f"{seconds} s were not enough")


def is_alive(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


class Cluster:
    """A running Slurm; `folder` is where it keeps its state."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def __call__(self, *command):
        """What a Slurm command prints."""
        options = {"capture_output": True, "text": True, "env": self.environment}
        return subprocess.run(command, check=True, **options).stdout.strip()

    def up(self):
        folder, host = self.folder, socket.gethostname().split(".")[0]
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0)), second.bind(("127.0.0.1", 0))
            ports = first.getsockname()[1], second.getsockname()[1]
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        gpus = "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n"
        (folder / "gres.conf").write_text(gpus)
        configuration = CONFIGURATION.format(folder=folder, host=host, ports=ports)
        (folder / "slurm.conf").write_text(configuration)
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munged.seed"}
        self("munged", *[f"--{option}={folder / name}" for option, name in files.items()])
        self("slurmctld")
        self("slurmd")
        wait_for(self.is_idle)

    def is_idle(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            return self("sinfo", "-h", "-o", "%T") == "idle"

    def down(self):
        with contextlib.suppress(subprocess.CalledProcessError, TimeoutError):
            self("scancel", "--user=root")
            wait_for(lambda: not self("squeue", "-h"), 20)  # without slurmd, jobs would go on
        for name in ("slurmd", "slurmctld", "munged"):
            file = self.folder / f"{name}.pid"
            if file.is_file():
                pid = int(file.read_text())
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
                wait_for(lambda pid=pid: not is_alive(pid), 20)

    def states(self, job):
        """Such as RUNNING or COMPLETED, of each task of an array."""
        lines = self("scontrol", "show", "job", job, "--oneliner").splitlines()
        return [re.search(r"JobState=(\w+)", line)[1] for line in lines]

    def has_ended(self, job):
        return not {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING"} & set(self.states(job))


@pytest.fixture(scope="module")
def cluster():
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)  # munge wants that
        cluster = Cluster(Path(folder))
        try:
            cluster.up()
            yield cluster
        finally:
            cluster.down()


class Plan:
    """A plan of a tiny notebook, in `folder`."""

    def __init__(self, cluster, folder):
        folder.mkdir()
        self.cluster, self.folder = cluster, folder
        self.hold = folder / "hold"

    def write(self, seeds=1, wait=(False,), minutes=5):
        cells = [
            nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(CODE.format(folder=str(self.folder))),
        ]
        metadata = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
        nbformat.write(notebook, self.folder / "tiny.ipynb")
        plan = {"notebook": "tiny.ipynb", "seeds": seeds, "minutes": minutes}
        plan |= {"grid": {"wait": list(wait)}}
        (self.folder / "plan.yml").write_text(json.dumps(plan))  # JSON is YAML

    def submit(self, shares, *options):
        """Send all shares as an array; returns its number."""
        command = [sys.executable, "-m", "lclkit", "replicate", str(self.folder / "plan.yml")]
        command += ["--out", str(self.folder / "out"), "--shard"]
        script = f"#!/bin/bash\nexec {shlex.join(command)} $SLURM_ARRAY_TASK_ID/{shares}\n"
        (self.folder / "job.sh").write_text(script)
        where = [f"--chdir={ROOT}", f"--output={self.folder}/%A-%a.txt"]
        array = f"--array=0-{shares - 1}"
        job = [*where, array, *options, str(self.folder / "job.sh")]
        return self.cluster("sbatch", "--parsable", *job)

    def finish(self, job):
        """The states of a job's tasks, once they have ended and nothing of the plan is running."""
        try:
            wait_for(lambda: self.cluster.has_ended(job))
            wait_for(lambda: not self.processes(), 20)
        finally:
            for file in self.folder.glob("*.txt"):
                print(file.name, file.read_text(), sep="\n")  # where a test fails
        return self.cluster.states(job)

    def processes(self):
        """All on this machine that know the plan's folder."""
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if str(self.folder).encode() in file.read_bytes():
                    found.append(file.parent.name)
        return found

    def attempts(self):
        """(seed, wait, device) of the runs that have begun."""
        file = self.folder / "attempts"
        return sorted(line.split() for line in file.open()) if file.is_file() else []

    def records(self):
        files = sorted((self.folder / "out" / "plan").glob("*/run.json"))
        return [json.loads(file.read_text()) for file in files]

    def run_states(self):
        return [record["state"] for record in self.records()]


@pytest.fixture
def plan(cluster, tmp_path):
    plan = Plan(cluster, tmp_path / "here")
    yield plan
    plan.hold.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def over(cluster, tmp_path_factory):
    """A plan and its job, which is over Slurm's limit: that is in minutes, so the end is moved.

    It is early, for Slurm looks for such jobs twice a minute.
    """
    plan = Plan(cluster, tmp_path_factory.mktemp("over") / "here")
    plan.write(wait=(True,))
    plan.hold.touch()
    job = plan.submit(1)
    wait_for(plan.attempts)
    cluster("scontrol", "update", f"jobid={job}", "EndTime=now+1")
    return plan, job


def test_an_array_of_shares_finishes_a_plan_and_each_run_has_its_gpu(over, plan):
    plan.write(seeds=2)
    assert plan.finish(plan.submit(2, "--gres=gpu:1")) == ["COMPLETED"] * 2
    assert plan.run_states() == ["finished"] * 2
    assert [(seed, wait) for seed, wait, _ in plan.attempts()] == [("0", "False"), ("1", "False")]
    assert {device for _, _, device in plan.attempts()} <= {"0", "1"}


def test_a_cancelled_share_is_sent_again_and_does_only_what_is_missing(plan):
    plan.write(wait=(False, True))
    plan.hold.touch()
    job = plan.submit(1)
    wait_for(lambda: len(plan.attempts()) == 2)
    plan.cluster("scancel", job)
    assert plan.finish(job) == ["CANCELLED"]
    assert plan.run_states().count("finished") == 1
    plan.hold.unlink()
    assert plan.finish(plan.submit(1)) == ["COMPLETED"]
    assert plan.run_states() == ["finished"] * 2
    assert [wait for _, wait, _ in plan.attempts()] == ["False", "True", "True"]


def test_runs_over_a_limit_are_tried_again(over, plan):
    plan.write(wait=(True,), minutes=0.1)
    plan.hold.touch()
    assert plan.finish(plan.submit(1)) == ["FAILED"]
    (record,) = plan.records()
    assert record["state"] == "failed" and "longer than its limit" in record["reason"]

    other, job = over
    assert other.finish(job) == ["TIMEOUT"]
    assert other.run_states() != ["finished"]

    jobs = []
    for each in (plan, other):
        each.hold.unlink()
        each.write(wait=(True,))
        jobs.append(each.submit(1))
    assert [plan.finish(jobs[0]), other.finish(jobs[1])] == [["COMPLETED"], ["COMPLETED"]]
    assert plan.run_states() == other.run_states() == ["finished"]
