"""Run a plan: a notebook many times, each run in a process of its own under a lock of its own."""

import json
import os
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, partial
from hashlib import sha256
from itertools import chain, product
from pathlib import Path
from queue import Queue

import yaml
from filelock import FileLock, Timeout
from tqdm import tqdm

from lclkit import data, files, notebook, paper, sources

PLANS = Path(__file__).parents[1] / "notebooks" / "plans"
USUAL = {"notebook": "../04_training.ipynb", "seeds": 1, "grid": [], "minutes": 720.0, "claims": {}}


@dataclass(frozen=True)
class Run:
    """One run of a plan, checked.

    identity: what decides its numbers; a hash of it ends the folder's name. parameters: as the
    notebook gets them. minutes: its limit.
    """

    folder: Path
    notebook: Path
    identity: dict
    parameters: dict
    minutes: float

    @property
    def record(self) -> dict:
        """Its run.json, or that of another plan which has finished the same run.

        Its "state" is "finished", "failed" or, where there is no file, "missing".
        """
        record = {"state": "missing", "reason": ""}
        others = self.folder.parents[1].glob(f"*/{self.folder.name}/run.json")
        for file in (*others, self.folder / "run.json"):
            if file.is_file() and record["state"] != "finished":
                record = json.loads(file.read_text(encoding="utf-8"))
        return record


def expand(
    plan: str | Path, out: str | Path = "runs", only: Sequence[str] = (), dry: bool = False
) -> list[Run]:
    """The runs of a plan, seed by seed, so that every stop leaves a balanced set.

    plan: a name in notebooks/plans, or a file. Its grid is a mapping, parameter -> value or values,
    of which all combinations are run, or a list of such mappings. only: "name=value,value", each
    leaves the runs with such a value. dry: download nothing; the hash of what is not here is None.
    Raises ValueError for whatever the plan, the notebook or the training would not take.
    """
    file = Path(plan) if Path(plan).suffix else PLANS / f"{plan}.yml"
    if not file.is_file():
        names = ", ".join(sorted(path.stem for path in PLANS.glob("*.yml")))
        raise ValueError(f"plan: expected a file or one of {names}; found {str(plan)!r}")
    content = _read_plan(file)
    source = (file.parent / content["notebook"]).resolve()
    defaults = notebook.defaults(source)
    runs = {}
    for seed, values in product(range(content["seeds"]), content["grid"]):
        own = {"seed": seed, "lesson": False, "out": ""}
        parameters = notebook.check(f"{file.name}, {source.name}", values | own, defaults)
        if _chosen(parameters, only):
            identity = _identity(source, parameters, dry)
            folder = Path(out).resolve() / file.stem / _title(identity)
            parameters = identity["parameters"] | {"out": str(folder)}
            runs[folder] = Run(folder, source, identity, parameters, content["minutes"])
    if not runs:
        raise ValueError(f"only: {' '.join(only)} leaves no run of {file.name}")
    return list(runs.values())


def _read_plan(file: Path) -> dict:
    """A plan, whose grid is a list of all combinations. Raises ValueError for what is no plan."""
    try:
        plan = yaml.safe_load(file.read_text(encoding="utf-8"))
        grids = plan["grid"] if isinstance(plan["grid"], list) else [plan["grid"]]
        combinations = list(chain(*map(_combinations, grids)))
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        expected = "expected a mapping with a grid, which is a mapping or a list of some"
        raise ValueError(f"{file.name}: {expected}; found {error!r}") from None
    return notebook.check(file.name, plan | {"grid": combinations}, USUAL)


def _combinations(grid: dict) -> Iterator[dict]:
    """Each value of each parameter with each of the others. `changes` may be a grid of its own."""
    choices = []
    for value in grid.values():
        if isinstance(value, dict):
            value = [_as_text(settings) for settings in _combinations(value)]
        choices.append(value if isinstance(value, list) else [value])
    for values in product(*choices):
        yield dict(zip(grid, values, strict=True))


def _as_text(settings: dict) -> str:
    return ", ".join(f"{name}: {value}" for name, value in settings.items())


def _chosen(parameters: dict, only: Sequence[str]) -> bool:
    for condition in only:
        name, _, values = condition.partition("=")
        if name not in parameters:
            known = ", ".join(parameters)
            raise ValueError(f"only: expected name=value with one of {known}; found {condition!r}")
        if str(parameters[name]) not in re.split(r",(?! )", values):  # `changes` contains ", "
            return False
    return True


def _identity(source: Path, parameters: dict, dry: bool) -> dict:
    """What decides the numbers of a run; what would fail in a notebook that trains fails here."""
    from lclkit import training

    identity = {"notebook": source.name, "parameters": parameters, "hashes": {}}
    if "loss" in parameters:
        names = [parameters[name] for name in ("profile", "dataset", "recipe", "encoder")]
        setup = paper.profile(*names)
        settings = setup.settings | {"loss": parameters["loss"], "seed": parameters["seed"]}
        config = training.Config(**settings | training.parse_changes(parameters["changes"]))
        identity["parameters"] = parameters | {"profile": setup.name}
        identity |= {"config": asdict(config), "texts": setup.texts}
        identity["results_version"] = training.RESULTS_VERSION
        texts = [parameters[name] for name in ("dataset", "recipe", "classes")]
        identity["hashes"] = _hashes(*texts, config.encoder, dry)
    return identity


@cache
def _hashes(name: str, recipe: str, classes: str, encoder: str, dry: bool) -> dict:
    """Of the contents of data set and encoder; dry: None for what would have to be fetched."""
    from lclkit import models

    hashes = {name: None, encoder: None}
    if not dry or name not in sources.SOURCES or sources.find(name):
        dataset = data.load(name, variant=recipe if name in sources.SOURCES else "default")
        hashes[name] = dataset.subset(classes).hash if classes else dataset.hash
    try:
        hashes[encoder] = models.open_encoder(encoder).hash
    except models.EncoderError:
        if not dry:
            raise
    return hashes


def _title(identity: dict) -> str:
    """The name of a run's folder: what a person looks for, and a hash of all that matters."""
    parameters = identity["parameters"]
    words = [value for value in parameters.values() if isinstance(value, str) and value]
    title = re.sub(r"[^\w.]+", "-", "-".join([*words, f"seed{parameters['seed']}"]))
    key = sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return f"{title[-180:]}-{key}"


def preview(runs: list[Run], out: str | Path = "runs") -> None:
    """Print what is finished, failed or missing, and what finished runs of the same kind took."""
    minutes = defaultdict(list)
    for file in Path(out).glob("*/*/run.json"):
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["state"] == "finished":
            minutes[_kind(file.parent)].append(record["seconds"] / 60)
    print(" minutes  state     run")
    for run in runs:
        record = run.record
        alike = minutes[_kind(run.folder)]
        median = f"{statistics.median(alike):.1f}" if alike else ""
        hashes = run.identity["hashes"]
        absent = ", ".join(name for name in hashes if hashes[name] is None)
        note = f"needs {absent}" if absent else record["reason"]
        print(f"{median:>8}  {record['state']:<8}  {run.folder.name}  {note}".rstrip())
    counts = Counter(run.record["state"] for run in runs)
    states = ", ".join(f"{counts[state]} {state}" for state in ("finished", "failed", "missing"))
    print(f"{len(runs)} runs: {states}. Minutes: the median of finished runs of the same kind.")


def _kind(folder: Path) -> str:
    return folder.name.rpartition("-seed")[0]


def replicate(runs: list[Run], jobs: int = 1, devices: Sequence[str] = ()) -> int:
    """Run what is not finished, `jobs` at a time; returns how many runs failed.

    Several callers may share a folder: each run is done by one, and the others wait for it. A run
    that fails, or takes longer than its limit, is recorded and does not stop the others. If the
    caller dies so do its runs. devices: values of CUDA_VISIBLE_DEVICES, shared evenly by the runs.
    """
    import torch

    cores = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // jobs))}
    environments = Queue()  # one for each run at a time
    for number in range(jobs):
        device = {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {}
        environments.put(cores | os.environ | device)
    before = {run.folder: run.record for run in runs}
    todo = [run for run in runs if before[run.folder]["state"] != "finished"]
    bar = tqdm(total=len(runs), initial=len(runs) - len(todo), unit="run")
    run_one = partial(_run, before=before, environments=environments, bar=bar)
    with ThreadPoolExecutor(jobs) as pool, bar:
        while todo:  # again, where another caller is at some of them
            done = pool.map(run_one, todo)
            todo = [run for run, is_done in zip(todo, done, strict=True) if not is_done]
    failed = [run for run in runs if run.record["state"] == "failed"]
    print(f"{len(runs)} runs: {len(runs) - len(failed)} finished, {len(failed)} failed")
    for run in failed:
        print(f"{run.record['reason']}: {run.folder / 'log.txt'}")
    return len(failed)


def _run(run: Run, before: dict[Path, dict], environments: Queue, bar: tqdm) -> bool:
    """One run, under its lock. Returns False, and does nothing, while another caller is at it.

    before: the records at the start; where one has changed, another caller has done the run.
    environments: those that no run has at the moment.
    """
    locks = run.folder.parents[1] / ".locks"  # of all plans: two may have a run in common
    locks.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(locks / f"{run.folder.name}.lock").acquire(timeout=2)
    except Timeout:
        return False
    with lock:
        record = run.record
        if record["state"] == "missing" or record == before[run.folder]:
            environment = environments.get()
            try:
                task = (run.notebook, run.folder, run.parameters, run.minutes)
                result = notebook.run_apart(*task, environment)
            finally:
                environments.put(environment)
            record = result | {"identity": run.identity} | files.provenance()
            with files.whole(run.folder / "run.json") as file:
                file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    bar.write(f"{run.folder.name}: {record['reason'] or 'finished'}, {record['seconds']:.0f} s")
    bar.update()
    return True
