"""The command line: lclkit, or python -m lclkit."""

import inspect
import os
import re
import shlex
import signal
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import metadata, requires, version
from pathlib import Path
from typing import get_type_hints

from pydantic import ValidationError
from typer import Argument, Option, Typer

from lclkit import config, files, paper

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NAMES = ", ".join(paper.SIZES)
MPNET = "sentence-transformers/all-mpnet-base-v2"
ENCODERS = ("minilm", paper.ENCODER, *paper.RIVALS.values(), MPNET)
FILE = "A file has a column text. Say -- before a text that begins with -."
STYLE = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}
STYLE |= {"no_args_is_help": True, "result_callback": sys.exit}  # commands return their status
app = Typer(help="Learn, check and re-run one paper.", **STYLE)


@app.command()
def doctor() -> int:
    """Show what is here, what the demo lacks, and how to get it."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # only look
    import torch

    from lclkit import models, sources

    print("device:", torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU")
    needs = [line for line in requires("lclkit") or () if "extra" not in line]
    tasks = {re.split(r"[^\w.-]", line)[0]: version for line in needs}
    tasks |= dict.fromkeys(sources.SOURCES, lambda x: sources.find(x) or "not here: lclkit fetch")
    tasks["WordNet"] = lambda _: sources.wordnet().root
    tasks["minilm"] = lambda name: models.open_encoder(name).folder
    failed = _do_all(tasks)
    print("The demo cannot run yet." if failed else "The demo can run: lclkit demo")
    return failed


@app.command()
def fetch(
    names: list[str] = Argument([], metavar="[NAME]...", help=NAMES),
    all: bool = Option(False, "--all", help="All six data sets."),
    encoders: bool = Option(False, "--encoders", help="The plans' encoders, and WordNet."),
    to: Path = Option(None, metavar="DIR", help="Where data sets go, or are."),
    check: bool = Option(False, "--check", help="Check data sets, by default all; get none."),
) -> int:
    """Download data sets and encoders, or check them; all are tried."""
    from lclkit import data, sources

    if all or check and not names:
        names = list(paper.SIZES)
    if not set(names) <= set(paper.SIZES) or not names and not encoders:
        raise ValueError(f"name some of these, or say --all: {NAMES}")
    warnings.filterwarnings("error", ".*unknown hash")
    places = [to.expanduser()] if to else sources.search_path()

    def data_set(name: str) -> str:
        if check and not sources.find(name, places):
            raise data.DataError(f"{name}: missing in {', '.join(map(str, places))}")
        if check:
            data.load(name, to)
        return f"{'ok' if check else 'here'}, {sources.fetch(name, places)}"

    tasks = dict.fromkeys(names, data_set)
    if encoders:
        from lclkit import models

        tasks["WordNet"] = lambda _: sources.wordnet().root
        tasks |= dict.fromkeys(ENCODERS, lambda name: models.open_encoder(name).folder)
    return _do_all(tasks)


def _do_all(tasks: dict) -> int:
    """Do each task with its name, and print what it gives, or why not. Returns 1 if one failed."""
    failed = 0
    for name, task in tasks.items():
        try:
            print(f"{name}: {task(name)}")
        except (ImportError, RuntimeError, UserWarning) as error:
            print(error, file=sys.stderr)
            failed = 1
    return failed


def _with_settings(command: Callable) -> Callable:
    """The command with an option for each field of Config; its comment and default are the help."""
    source = Path(config.__file__).read_text("utf-8")
    comments = dict(re.findall(r"(?m)^    (\w+): .*  # (.*)", source))
    options = [*inspect.signature(command).parameters.values()][:-1]
    hints = get_type_hints(config.Config)
    for name, usual in inspect.signature(config.Config).parameters.items():
        option = Option(None, help=f"{comments[name]} [{usual.default}]")
        about = {"default": option, "annotation": hints[name]}
        options.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, **about))
    command.__signature__ = inspect.Signature(options)  # type: ignore
    return command


@app.command()
@_with_settings
def train(
    dataset: str = Argument(metavar="DATA", help="A .csv file, a folder of three, or a name."),
    out: Path = Option("runs", metavar="DIR", help="The folder for this and other runs."),
    **settings,
) -> None:
    """Train on a .csv file with the columns text and label, and keep the model.

    As in the authors' code; on a CPU: --encoder minilm --trainable-layers 2 --epochs 3 --lr 2e-4.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    setup = paper.profile("paper", dataset, encoder=given.get("encoder", ""))
    chosen = config.Config(**setup.settings | given)
    from accelerate import PartialState
    from sklearn.metrics import confusion_matrix
    from statsmodels.stats.proportion import proportion_confint

    from lclkit import analysis, data, training

    texts = data.load(dataset)
    PartialState().print(texts)
    result = training.train(texts, chosen, out, save=True)
    if not PartialState().is_main_process:
        return
    rows, scores = result.rows(), result.summary["scores"]
    right, size = (rows.label == rows.predicted).sum(), len(rows)
    low, high = proportion_confint(right, size, method="wilson")
    counts = confusion_matrix(rows.label, rows.predicted, labels=range(len(texts.classes)))
    commonest = counts.sum(1).argmax()
    i, j, share = analysis.confusable_pairs(counts)[0]
    run = out / result.folder.name
    print(f"accuracy   {scores['test_phi']:.1f} % of {size:,} test texts", end="")
    print(f" (95 % interval over texts {100 * low:.1f} to {100 * high:.1f}; seeds differ too)")
    print(f"macro F1   {scores['test_phi_macro_f1']:.1f} %")
    share_of_one = 100 * counts[commonest].sum() / size
    print(f"compare    {share_of_one:.1f} % by always saying {texts.classes[commonest]}")
    if share:
        swapped, both = counts[i, j] + counts[j, i], counts[[i, j]].sum()
        pair = f"{texts.classes[i]} and {texts.classes[j]}"
        print(f"confused   most {pair}: {swapped} of their {both} texts")
    print(f"classes    {', '.join(texts.classes)}")
    print(f"run        {run}\nmodel      {run / 'model'}")
    print(f"next       lclkit predict {shlex.quote(str(run))} TEXT")


@app.command()
def predict(
    folder: Path = Argument(metavar="FOLDER", help="Of a run that `train` left, or its model."),
    texts: list[str] = Argument(metavar="TEXT... | FILE.csv", help=FILE),
    out: Path = Option(None, metavar="FILE.csv", dir_okay=False, help="For all probabilities."),
) -> None:
    """Say the class of texts, or of those in a .csv file."""
    import pandas as pd
    import torch

    from lclkit import data, models

    if len(texts) == 1 and texts[0].lower().endswith(".csv"):
        texts = [text for text, _ in data.read_csv(Path(texts[0]).expanduser(), labelled=False)]
    elif wrong := [text for text in texts if os.path.isfile(text) or not text.strip()]:
        raise ValueError(f"expected texts, or one .csv file; found {wrong[0]!r}")
    if not texts:
        raise ValueError("no text is in the file: expected a row a text, below the column's name")
    if out and out.expanduser().exists():
        raise ValueError(f"{out} exists: name another file, or move it away")
    place = folder.expanduser()
    place = place / "model" if (place / "model").is_dir() else place
    try:
        (place / "config.json").read_bytes()  # else transformers looks on the hub
        with models.quiet():
            model = models.Encoder.from_pretrained(place)
    except Exception as error:  # what damaged or other models raise has no kind of its own
        expected = "the folder of a run with a model, as lclkit train leaves it"
        raise ValueError(f"{folder}: expected {expected} ({error!s:.160})") from error
    target = files.writable(out.parent) / out.name if out else None
    labels, probabilities = model.to(0 if torch.cuda.is_available() else "cpu").predict(texts)
    names = [model.config.id2label[label] for label in range(model.config.num_labels)]
    if target:
        table = pd.DataFrame({"text": texts, "predicted": labels})
        table[[f"p_{name}" for name in names]] = probabilities
        with files.whole(target) as file:
            table.to_csv(file, index=False)
        print(f"{len(texts):,} texts: {out}")
        return
    for text, p in zip(texts, probabilities, strict=True):
        first, second = (f"{names[c]} ({100 * p[c]:.0f} %)" for c in p.argsort()[:-3:-1])
        print(f"{first}, {second}: {' '.join(text.split()):.70}")


@app.command()
def demo(profile: str = Option("demo", envvar="LCLKIT_PROFILE", help="or ci, cpu, paper")) -> None:
    """Run the quickstart. On two CPU cores profile ci takes two minutes, demo twelve."""
    paper.profile(profile, "supersense")
    _run("00_quickstart.ipynb", Path("runs", profile), {})


@app.command()
def report(
    runs: list[Path] = Argument([], exists=True, help="Folders of runs, or packed files."),
    out: Path = Option("runs/report", metavar="DIR", help="For RESULTS.md and its figures."),
) -> None:
    """Set finished runs, by default all, beside the paper's numbers, on one page."""
    runs = runs or [path for path in (Path("runs"), NOTEBOOKS / "results") if path.exists()]
    _run("results/report.ipynb", out, {"runs": [str(path.resolve()) for path in runs]})
    print(f"Page         {out.resolve() / 'RESULTS.md'}")


@app.command()
def replicate(
    plan: str = Argument(help="A file, or a name in notebooks/plans: smoke, table1, ..."),
    out: Path = Option("runs", metavar="DIR", help="The folder for all plans' runs."),
    jobs: int = Option(None, min=1, help="Runs at a time, by default one, or one a GPU."),
    devices: str = Option("", metavar="0,1", help="GPUs, one for each run at a time."),
    only: list[str] = Option([], metavar="NAME=VALUE", help="loss=ce,lcl; a change: form=printed"),
    shard: str = Option("0/1", metavar="I/N", help="A share of the runs: I from 0 to N-1."),
    dry_run: bool = Option(False, "--dry-run", help="List the runs; download nothing."),
) -> bool:
    """Run a plan: many runs of a notebook, those that are not finished."""
    from lclkit import plans

    runs = plans.expand(plan, out, only, shard, download=not dry_run)
    if not dry_run:
        gpus = devices.split(",") if devices else []
        plans.replicate(runs, jobs or max(1, len(gpus)), gpus)
    return "failed" in plans.preview(runs) and not dry_run


@app.command()
def pack(file: Path, places: list[Path], summaries: bool = False) -> None:
    """Write finished runs, in folders or packed files, to one; summaries: without predictions."""
    from lclkit import results

    runs = results.find(places)
    if not runs:
        raise ValueError(f"no finished run in {', '.join(map(str, places))}")
    results.pack_results(runs, file, predictions=not summaries)


def _run(name: str, out: Path, parameters: dict) -> None:
    """Run a notebook that writes to a folder, and make a page of it. Exits where a cell fails."""
    from latex2mathml.converter import convert
    from nbconvert import HTMLExporter
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
    from papermill import PapermillExecutionError

    from lclkit import plans

    folder = files.writable(out)
    executed, page = (folder / f"{Path(name).stem}.{kind}" for kind in ("ipynb", "html"))
    parameters |= {"profile": folder.name, "out": str(folder.parent)}
    print(f"Running {executed.name}. Stop it whenever you like: what is finished is kept.")
    try:
        plans.execute(NOTEBOOKS / name, executed, parameters)
    except PapermillExecutionError as error:
        sys.exit(f"{error.ename}: {error.evalue}; see {executed}")
    print(f"\nNotebook     {executed}\nFigures      {folder / 'figures'}")
    exporter = HTMLExporter(template_file=str(Path(__file__).with_name("page.html.j2")))
    renderer = IPythonRenderer(escape=False)  # formulas that are read without the internet
    renderer.inline_math = convert
    renderer.block_math = lambda tex: convert(
        re.sub(r"\\tag{(.+?)}", r"\\qquad(\1)", tex), display="block"
    )
    exporter.register_filter("markdown2html", MarkdownWithMath(renderer).render)
    with files.whole(page) as file:
        file.write_text(exporter.from_filename(str(executed))[0], encoding="utf-8")
    print(f"as HTML      {page}")


def _stop(number: int, _: object) -> None:
    left = "Nothing was written." if sys.argv[1:2] == ["predict"] else "What is finished is kept."
    print(f"\nStopped. {left}", file=sys.stderr)
    if sys.argv[1:2] == ["fetch"]:
        sys.exit(128 + number)  # half a download goes
    os._exit(128 + number)  # and what it has started ends with it


def main() -> None:
    warnings.formatwarning = lambda message, *_: f"{message}\n"  # what users can do something about
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    if sys.stdout:  # not every terminal has every letter
        sys.stdout.reconfigure(errors="replace", line_buffering=True)
    try:
        if os.path.expanduser("~") == "~":  # a user without a name: libraries fail one by one
            raise OSError("no home folder: set HOME to a folder that can be written to")
        needs_a_clone = {*sys.argv[1:2]} & {"demo", "report", "replicate"}
        if needs_a_clone and not NOTEBOOKS.is_dir():
            address = metadata("lclkit")["Project-URL"].split()[-1]
            raise FileNotFoundError(f"no notebooks are here: run this in a clone of {address}")
        app()
    except (ArithmeticError, ImportError, MemoryError, OSError, RuntimeError, ValueError) as error:
        reason = paper.in_words(error) if isinstance(error, ValidationError) else str(error)
        reason = re.sub("For further information.*", "", reason)  # of pydantic, within a plan's
        print(" ".join(reason.split()), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
