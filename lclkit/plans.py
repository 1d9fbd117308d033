"""Run a notebook headlessly; check a plan of many runs, and do those that are missing."""

import ast
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import TextIO

import yaml
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, create_model

from lclkit import files, paper, sources

PLANS = Path(__file__).parents[1] / "notebooks" / "plans"
LIFELINE = os.pipe()  # nothing is written to it, and it closes when this process ends
STRICT = ConfigDict(extra="forbid", strict=True)


class Plan(BaseModel):
    """A plan's file. grid: parameter -> value or values, or several such; claims: notebook 07's."""

    model_config = STRICT
    notebook: str = "../04_training.ipynb"
    seeds: PositiveInt = 1
    minutes: PositiveFloat = 720.0
    grid: dict | list[dict]
    claims: dict = {}


@dataclass(frozen=True)
class Run:
    """A notebook, to be run with parameters. identity: what decides its numbers."""

    folder: Path
    notebook: Path
    parameters: dict
    identity: dict
    minutes: float = 10_000.0

    def records(self, name: str) -> list[dict]:
        """The run.json of runs, of any plan, whose folder has this name; finished ones are last."""
        places = self.folder.parents[1].glob(f"*/{name}/run.json")
        records = [json.loads(file.read_text(encoding="utf-8")) for file in places]
        return sorted(records, key=lambda each: (each["state"] == "finished", each["finished"]))

    def record(self) -> dict:
        return [{"state": "missing", "reason": ""}, *self.records(self.folder.name)][-1]


def expand(
    plan: str, out: Path, only: Sequence[str] = (), shard: str = "0/1", download: bool = True
) -> list[Run]:
    """The runs of a plan, or a share of it, seed by seed, so that every stop leaves a balanced set.

    plan: a name in notebooks/plans, or a file. only: "name=value,value", each leaves the runs with
    such a value. shard: "I/N", of these every N-th from number I on, counted from 0. download:
    what is missing; else its hash is None. Raises ValueError for what could not be run.
    """
    import papermill

    file = Path(plan) if Path(plan).suffix else PLANS / f"{plan}.yml"
    if not file.is_file():
        names = ", ".join(sorted(path.stem for path in PLANS.glob("*.yml")))
        raise ValueError(f"plan: expected a file or one of {names}; found {plan!r}")
    content = Plan.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    notebook = (file.parent / content.notebook).resolve()
    defaults = {}
    for name, about in papermill.inspect_notebook(str(notebook)).items():
        value = ast.literal_eval(about["default"])
        defaults[name] = (type(value), value)
    model = create_model(notebook.name, __config__=STRICT, **defaults)
    runs = {}
    for seed, values in product(range(content.seeds), _combinations(content.grid)):
        own = {"seed": seed, "lesson": False, "out": ""}
        parameters = model(**values | own).model_dump()
        settings = parameters | parameters.get("changes", {})
        choices = [condition.partition("=") for condition in only]
        if all(str(settings.get(name)) in values.split(",") for name, _, values in choices):
            identity = _identity(notebook, parameters, download)
            folder = out.resolve() / file.stem / _title(identity)
            parameters = identity["parameters"] | {"out": str(folder)}
            runs[folder] = Run(folder, notebook, parameters, identity, content.minutes)
    if not runs:
        raise ValueError(f"only: {' '.join(only)} leaves no run; there are {', '.join(defaults)}")
    share = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not share or int(share[1]) >= int(share[2]):
        raise ValueError(f"shard: expected I/N, with I from 0 to N-1; found {shard!r}")
    return list(runs.values())[int(share[1]) :: int(share[2])]


def _combinations(grid: dict | list[dict]) -> list[dict]:
    """Each value of each parameter with each of the others; a mapping is a grid of its own."""
    if isinstance(grid, list):
        return [values for part in grid for values in _combinations(part)]
    choices = []
    for value in grid.values():
        if isinstance(value, dict):
            value = _combinations(value)
        choices.append(value if isinstance(value, list) else [value])
    return [dict(zip(grid, values, strict=True)) for values in product(*choices)]


def _identity(notebook: Path, parameters: dict, download: bool) -> dict:
    """What decides the numbers of a run; what would fail in a notebook that trains fails here."""
    identity = {"notebook": notebook.name, "parameters": parameters, "hashes": {}}
    if "loss" not in parameters:
        return identity
    from lclkit import results, training

    dataset, classes = parameters["dataset"], parameters["classes"]
    if classes not in ("", *paper.SUBSETS):
        raise ValueError(f"classes: expected one of {', '.join(paper.SUBSETS)}; found {classes!r}")
    names = ("profile", "dataset", "recipe", "encoder")
    setup = paper.profile(*(parameters[name] for name in names))
    settings = setup.settings | {"loss": parameters["loss"], "seed": parameters["seed"]}
    config = training.Config(**settings | parameters["changes"])
    hashes = {dataset: _data_hash(dataset, download)}
    hashes[config.encoder] = _encoder_hash(config.encoder, download)
    identity |= {"parameters": parameters | {"profile": setup.name}, "hashes": hashes}
    identity |= {"config": asdict(config), "texts": setup.texts}
    return identity | {"results_version": results.RESULTS_VERSION}


@cache
def _data_hash(name: str, download: bool) -> str | None:
    """Of a data set's files; None for what is not here, without `download`."""
    if name == "supersense":
        return "WordNet 3.0"
    if name.endswith(".csv"):
        return sha256(Path(name).read_bytes()).hexdigest()
    if name not in sources.SOURCES:
        known = ", ".join(["supersense", *sources.SOURCES])
        raise ValueError(f"dataset: expected one of {known} or a .csv file; found {name!r}")
    folder = sources.fetch(name, sources.search_path()) if download else sources.find(name)
    if folder is None:
        return None
    contents = [(folder / file).read_bytes() for file in sources.SOURCES[name].files]
    return sha256(b"".join(contents)).hexdigest()


@cache
def _encoder_hash(name: str, download: bool) -> str | None:
    from lclkit import models

    try:
        return models.open_encoder(name).hash
    except models.EncoderError:
        if download:
            raise
        return None


def _title(identity: dict) -> str:
    """The name of a run's folder: what a person looks for, and a hash of all that matters."""
    parameters = identity["parameters"]
    words = [value for value in parameters.values() if isinstance(value, str) and value]
    words += [f"{name}-{value}" for name, value in parameters.get("changes", {}).items()]
    title = re.sub(r"[^\w.]+", "-", "-".join(words))[-80:]  # Windows has a limit
    key = sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return f"{title}-seed{parameters['seed']}-{key}"


def preview(runs: Sequence[Run]) -> list[str]:
    """Print the state of each run, and what its kind took, or may take; returns the states."""
    states = []
    print(" minutes  state     run")
    for run in runs:
        record = run.record()
        alike = run.records(re.sub(r"-seed\d+-\w+$", "-seed*", run.folder.name))
        seconds = [each["seconds"] for each in alike if each["state"] == "finished"]
        minutes = f"{statistics.median(seconds) / 60:.1f}" if seconds else f"≤ {run.minutes:g}"
        absent = [name for name, value in run.identity["hashes"].items() if value is None]
        note = f"needs {', '.join(absent)}" if absent else record["reason"]
        print(f"{minutes:>8}  {record['state']:<8}  {run.folder.name}  {note}".rstrip())
        states.append(record["state"])
    counts = [f"{states.count(state)} {state}" for state in ("finished", "failed", "missing")]
    print(f"{len(runs)} runs: {', '.join(counts)}")
    return states


def replicate(runs: Sequence[Run], jobs: int = 1, devices: Sequence[str] = ()) -> None:
    """Run what is not finished, `jobs` at a time, each in a process that ends if this one does.

    Several callers may share a folder: each run is done by one, and the others wait for it.
    devices: values of CUDA_VISIBLE_DEVICES, shared evenly by the jobs.
    """
    import torch

    before = {run.folder: run.record() for run in runs}
    todo = [run for run in runs if before[run.folder]["state"] != "finished"]
    threads = str(max(1, torch.get_num_threads() // jobs))

    def work(job: int) -> None:
        """Do the runs that nobody is at; then wait for those of others, who may be killed."""
        environment = {"OMP_NUM_THREADS": threads} | os.environ
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = devices[job % len(devices)]
        for timeout, run in product((0, -1), todo):
            run.folder.mkdir(parents=True, exist_ok=True)
            lock = run.folder.parents[1] / f".{run.folder.name}.lock"  # one for all plans
            with contextlib.suppress(Timeout), FileLock(lock, timeout):
                record = run.record()
                if record["state"] == "missing" or record == before[run.folder]:
                    with open(run.folder / "log.txt", "w+", errors="replace") as log:
                        reason = execute(run, environment, log)
                    print(f"{reason or 'finished'}: {run.folder}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(work, range(jobs)))


def execute(run: Run, environment: Mapping | None = None, log: TextIO | None = None) -> str:
    """Execute a notebook in a process that ends when this one does; returns why it failed, or "".

    The executed one is called `*.unfinished.ipynb` until it is complete. log: for what it prints.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    unfinished = run.folder / f"{run.notebook.stem}.unfinished.ipynb"
    task = [str(run.notebook), str(unfinished), json.dumps(run.parameters)]
    command = [sys.executable, "-u", "-m", "lclkit.plans", *task]
    streams = {"stdin": LIFELINE[0], "stdout": log, "stderr": subprocess.STDOUT}
    environment = (environment or os.environ) | {"PYTHONIOENCODING": "utf-8"}
    start = time.monotonic()
    try:
        code = subprocess.run(
            command, env=environment, timeout=60 * run.minutes, **streams
        ).returncode
        reason = f"killed by signal {-code}" if code < 0 else ""
    except subprocess.TimeoutExpired:
        code = 0
        reason = f"took longer than its limit of {run.minutes:g} minutes"
    text = log.read() if log and not log.seek(0) else ""
    if code > 0:
        reason = text.strip().split("\n")[-1] or f"a cell failed, see {unfinished}"
    if not reason:
        unfinished.replace(run.folder / run.notebook.name)
    memory = re.search(r"Peak memory: ([\d.]+) GB", text)
    record = {
        "state": "failed" if reason else "finished",
        "reason": reason,
        "seconds": round(time.monotonic() - start, 1),
        "memory_gb": float(memory[1]) if memory else None,
        "identity": run.identity,
    }
    with files.whole(run.folder / "run.json") as file:
        text = json.dumps(record | files.provenance(), indent=1)
        file.write_text(text + "\n", encoding="utf-8")
    return reason


def _end_with_runner() -> None:
    os.read(sys.stdin.fileno(), 1)  # until the runner has ended
    os._exit(1)  # and the kernel, which looks after its parent, ends too


if __name__ == "__main__":  # the process of one run
    import papermill

    threading.Thread(target=_end_with_runner, daemon=True).start()
    notebook, executed, parameters = sys.argv[1:]
    options = {"kernel_name": "python3", "extra_arguments": ["--log-level=ERROR"]}
    options |= {"stdout_file": sys.stdout, "shutdown_kernel": "immediate"}
    try:
        papermill.execute_notebook(notebook, executed, json.loads(parameters), **options)
    finally:
        if sys.platform != "win32":  # which does not tell
            import resource

            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of the kernel
            print(f"Peak memory: {peak * (1 if sys.platform == 'darwin' else 1024) / 1e9:.2f} GB")
