"""Plans: check one, and do those of its runs that are missing, each a notebook in a process."""

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
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import product
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, create_model
from ruamel.yaml import YAML  # of 1.2: 3e-5 is a number, 010 ten, and no key stands twice

from lclkit import files, paper

PLANS = Path(__file__).parents[1] / "notebooks" / "plans"
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
read_yaml = YAML(typ="safe", pure=True).load
LIFELINE = os.pipe()  # nothing is written to it, and it closes when this process ends


class Plan(BaseModel, **STRICT):
    """A plan's file. grid: parameter -> value or values, or several such; claims: notebook 07's."""

    notebook: str = str(PLANS.parent / "04_training.ipynb")  # else relative to the plan
    seeds: int = Field(1, gt=0, le=1_000)
    minutes: float = Field(720.0, gt=0, le=366 * 24 * 60)
    grid: dict | list[dict]  # paths in it are relative to the working folder
    claims: dict = {}


@dataclass(frozen=True)
class Run:
    """One run of a plan. minutes: its limit; identity: what decides its numbers."""

    folder: Path
    notebook: Path
    minutes: float
    identity: dict

    def records(self, name: str) -> list[dict]:
        """What came of runs, of any plan, whose folder has this name; finished ones last."""
        records = {}
        for file in self.folder.parents[1].glob(f"*/{name}/run.json"):
            try:
                record = json.loads(file.read_bytes())
                record["seconds"] = float(record["seconds"])
                key = [str(record[name]) for name in ("state", "finished", "reason")]
                records[*key, file] = record
            except (OSError, ValueError, LookupError, TypeError):
                warnings.warn(f"{file} is no record of a run: it counts for nothing", stacklevel=3)
        return [records[key] for key in sorted(records)]

    def record(self) -> dict:
        return [{"state": "missing", "reason": ""}, *self.records(self.folder.name)][-1]


def expand(
    plan: str, out: Path, only: list[str] | tuple = (), shard: str = "0/1", download: bool = True
) -> list[Run]:
    """The runs of a plan, or a share of it, seed by seed, so that every stop leaves a balanced set.

    plan: a name in notebooks/plans, or a file. only: "name=value,value". shard: "I/N", every N-th
    from I on, from 0. download: what is missing, else hashed as None. ValueError for a bad plan.
    """
    import papermill

    file = Path(plan).expanduser() if Path(plan).suffix else PLANS / f"{plan}.yml"
    if not file.is_file():
        names = ", ".join(sorted(path.stem for path in PLANS.glob("*.yml")))
        raise ValueError(f"plan: expected a file or one of {names}; found {plan!r}")
    own = {"seed": 0, "lesson": False, "out": ""}  # no plan says them
    runs, conditions = {}, []
    try:
        for condition in only:
            name, _, values = condition.lower().partition("=")
            wanted = [read_yaml(value) if value else "" for value in values.split(",")]
            conditions.append((name.strip(), [str(value).lower() for value in wanted]))
        content = Plan.model_validate(read_yaml(file))
        notebook = (file.parent / content.notebook).resolve()
        inspected = papermill.inspect_notebook(str(notebook))
        defaults = {name: ast.literal_eval(about["default"]) for name, about in inspected.items()}
        fields: dict = {k: (type(v), v) for k, v in defaults.items() if k not in own}
        check = create_model(f"{notebook.name} less {[*own]}", __config__=STRICT, **fields)
        for seed, values in product(range(content.seeds), _choices(content.grid)):
            parameters: dict = check.model_validate(values).model_dump() | own | {"seed": seed}
            settings = parameters | parameters.get("changes", {})
            if all(str(settings.get(name, [])).lower() in wanted for name, wanted in conditions):
                identity = {"notebook": notebook.name, "parameters": parameters, "hashes": {}}
                if "loss" in parameters:
                    identity |= _training(parameters, download)
                parts = [str(v) for k, v in identity["parameters"].items() if v and k != "seed"]
                words = re.sub(r"[^\w.]+", "-", "-".join(parts)).strip("-").encode()[-80:]
                key = sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
                name = f"{words.decode(errors='ignore')}-seed{seed}-{key}"  # Windows has a limit
                folder = out.expanduser().resolve() / file.stem / name
                runs[name] = Run(folder, notebook, content.minutes, identity)
    except Exception as error:  # whatever a file that somebody wrote may bring about
        raise ValueError(f"{file}: {error}") from error
    if not runs:
        raise ValueError(f"only: {' '.join(only)} leaves no run; parameters: {', '.join(fields)}")
    share = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not share or int(share[1]) >= int(share[2]):
        raise ValueError(f"shard: expected I/N, with I from 0 to N-1; found {shard!r}")
    return list(runs.values())[int(share[1]) :: int(share[2])]


def _choices(value: object) -> list:
    """What part of a grid stands for: each item of a list, each combination of a mapping."""
    if isinstance(value, list) and value:  # an empty one stands for itself, and is refused
        return [choice for item in value for choice in _choices(item)]
    if isinstance(value, dict):
        combinations = product(*map(_choices, value.values()))
        return [dict(zip(value, choices, strict=True)) for choices in combinations]
    return [value]


def _training(parameters: dict, download: bool) -> dict:
    """What decides the numbers of a run that trains; what would fail in the notebook fails here."""
    from lclkit import config, data, results, sources

    dataset = parameters["dataset"]
    subsets = paper.SUBSETS if dataset == "empatheticdialogues" else []
    names = [dataset] if data.own_files(dataset) else ["supersense", *sources.SOURCES, "*.csv"]
    known = {"dataset": names, "classes": ["", *subsets]}
    for name, values in known.items():
        if parameters[name] not in values:
            raise ValueError(f"{name}: expected one of {values}; found {parameters[name]!r}")
    setup = paper.profile(*(parameters[key] for key in ("profile", "dataset", "recipe", "encoder")))
    own = {"loss": parameters["loss"], "seed": parameters["seed"]} | parameters["changes"]
    settings = config.identity(config.Config(**setup.settings | own))
    hashes = {name: _hash(name, download) for name in (dataset, settings["encoder"])}
    identity = {"parameters": parameters | {"profile": setup.name}, "config": settings}
    identity |= {"texts": setup.texts, "hashes": hashes}
    return identity | {"results_version": results.RESULTS_VERSION}


@cache
def _hash(name: str, download: bool) -> str | None:
    """Of the files of a data set or encoder; None for what is not here, without `download`."""
    from lclkit import data, models, sources

    if name == "supersense":
        return "WordNet 3.0"
    paths = data.own_files(name)
    if name in sources.SOURCES:
        folder = sources.fetch(name, sources.search_path()) if download else sources.find(name)
        paths = [folder / file for file in sources.SOURCES[name].files if folder]
    if paths or name in sources.SOURCES:
        contents = b"".join(path.read_bytes() for path in paths)
        return sha256(contents).hexdigest() if paths else None
    expected = () if download else (models.EncoderError,)
    with contextlib.suppress(*expected):
        return models.open_encoder(name, download).hash


def preview(runs: list[Run]) -> list[str]:
    """Print the state of each run, and what its kind took, or may take; returns the states."""
    print(" minutes  state     run")
    records = [run.record() for run in runs]
    for run, record in zip(runs, records, strict=True):
        alike = run.records(re.sub(r"-seed\d+-\w+$", "-seed*", run.folder.name))
        seconds = [each["seconds"] for each in alike if each["state"] == "finished"]
        minutes = f"{statistics.median(seconds) / 60:.1f}" if seconds else f"≤ {run.minutes:g}"
        absent = [name for name, value in run.identity["hashes"].items() if value is None]
        note = f"needs {', '.join(absent)}" if absent else record["reason"]
        print(f"{minutes:>8}  {record['state']:<8}  {run.folder.name}  {note}".rstrip())
    states = [record["state"] for record in records]
    counts = [f"{states.count(state)} {state}" for state in ("finished", "failed", "missing")]
    print(f"{len(runs)} runs: {', '.join(counts)}")
    return states


def replicate(runs: list[Run], jobs: int = 1, devices: list[str] | None = None) -> None:
    """Run what is not finished, `jobs` at a time, each in a process that ends if this one does.

    Of several callers one does a run, and the others wait. devices: for CUDA_VISIBLE_DEVICES.
    """
    import torch

    before = {run.folder: run.record() for run in runs}
    todo = [run for run in runs if before[run.folder]["state"] != "finished"]
    common = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // jobs))} | os.environ
    common["PYTHONIOENCODING"] = "utf-8:replace"  # of log.txt
    print(f"{len(todo)} of {len(runs)} runs to do, {jobs} at a time", flush=True)

    def work(job: int) -> None:
        device = {"CUDA_VISIBLE_DEVICES": devices[job % len(devices)]} if devices else {}
        for timeout, run in product((0, -1), todo):  # those of others at last: they may be killed
            files.writable(run.folder)
            lock = run.folder.parents[1] / f".{run.folder.name}.lock"  # one for all plans
            with contextlib.suppress(Timeout), FileLock(lock, timeout):
                if run.record() == before[run.folder]:
                    _do(run, common | device)

    try:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(work, range(jobs)))
    except OSError as error:  # of a lock or a full disk, which does not say where
        advice = "free space, or say --out with a local disk, and call again: nothing is lost"
        raise OSError(f"{runs[0].folder.parents[1]}: {error}; {advice}") from error


def _do(run: Run, environment: dict[str, str]) -> None:
    parameters = run.identity["parameters"] | {"out": str(run.folder)}
    task = [run.notebook, run.folder / run.notebook.name, json.dumps(parameters), 60 * run.minutes]
    command = [sys.executable, "-u", "-X", "utf8", "-m", "lclkit.plans", *map(str, task)]
    start = time.monotonic()
    print(f"started: {run.folder}", flush=True)
    code = None  # of a run that did not end at its limit by itself
    with open(run.folder / "log.txt", "wb") as log, contextlib.suppress(subprocess.TimeoutExpired):
        options = {"env": environment, "stdin": LIFELINE[0], "stdout": log, "stderr": log}
        code = subprocess.run(command, timeout=60 * run.minutes + 60, **options).returncode
    seconds = round(time.monotonic() - start, 1)
    text = Path(log.name).read_text(encoding="utf-8", errors="replace")
    errors = re.findall(r"^[\w.]*[A-Z]\w*(?:Error|Exception): .*", text, re.M)
    reason = f"ended with status {code}, see log.txt" if code else ""
    if code == 1 and errors:  # another status is of no exception
        reason = errors[-1]
    if code is None or code and re.search(r"^Timeout \(\d.*\)!$", text, re.M):
        reason = f"took longer than its limit of {run.minutes:g} minutes"
    elif "Kernel died" in reason:
        reason += ", perhaps out of memory: fewer --jobs may help"
    record = {"state": "failed" if reason else "finished", "reason": reason, "seconds": seconds}
    record |= {"identity": run.identity, **files.provenance()}
    with files.whole(run.folder / "run.json") as file:
        file.write_text(json.dumps(record, indent=1))
    print(f"{reason or 'finished'}: {run.folder}", flush=True)


def execute(notebook: Path, executed: Path, parameters: dict, *arguments: str) -> None:
    """papermill's, in a kernel of this very Python, whatever `python3` is the name of here."""
    import papermill
    from jupyter_client.kernelspec import KernelSpecManager

    KernelSpecManager.kernel_dirs = []  # type: ignore  # looks for none: ipykernel's own is left
    # After four seconds, its default, a busy machine would lose what a cell printed.
    options = {"progress_bar": False, "kernel_name": "python3", "iopub_timeout": 60}
    options |= {"extra_arguments": ["--log-level=ERROR", *arguments], "stdout_file": sys.stdout}
    papermill.execute_notebook(notebook, executed, parameters, stderr_file=sys.stderr, **options)


if __name__ == "__main__":  # the process of one run, which ends when the runner does
    threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
    notebook, executed, values, seconds = sys.argv[1:]
    # The limit, for a kernel too that hangs outside Python, or does not see that we have ended.
    end = f"faulthandler.dump_traceback_later({seconds}, exit=True, file=sys.__stderr__)"
    limited = f"--IPKernelApp.exec_lines=import faulthandler, sys; {end}"
    execute(Path(notebook), Path(executed), json.loads(values), limited)
