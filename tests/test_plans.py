"""Plans: what they may say, and that nothing is lost or done twice, whatever happens."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lclkit import plans

WORK = """
import os, re, signal, time
from pathlib import Path
Path(out, f"kernel{os.getpid()}").touch()
print("Ψ")
if word == "hangs":  # outside Python, where the kernel does not see that its parent is gone
    re.match("(a+)+$", "a" * 60 + "b")
time.sleep(seconds)
if word in ("die", "killed"):  # the process of the run, or its kernel, as for want of memory
    os.kill(os.getppid() if word == "die" else os.getpid(), signal.SIGKILL)
    time.sleep(900)
assert number > 0, "too small"
Path(out, "threads").write_text(os.environ["OMP_NUM_THREADS"])
"""
PARAMETERS = """number = 1\nseconds = 0.0\nword = "one"\nseed = 0\nlesson = True\nout = "runs\""""
LIKE_04 = """profile = "ci"\nrecipe = "released"\ndataset = "supersense"\nclasses = ""
encoder = "minilm"\nloss = "lcl"\nseed = 0\nchanges = {}\nlesson = True\nout = "runs\""""


@pytest.fixture
def plan(tmp_path):
    """A function that writes a plan and its notebook, and returns the plan's file."""

    def write(text, parameters=PARAMETERS):
        made = nbformat.v4.new_notebook()
        made.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
        made.cells = [nbformat.v4.new_code_cell(source) for source in (parameters, WORK)]
        made.cells[0].metadata.tags = ["parameters"]
        nbformat.write(made, tmp_path / "made.ipynb")
        file = tmp_path / "made.yml"
        file.write_text(f"notebook: made.ipynb\n{text}", encoding="utf-8")
        return file

    return write


@pytest.fixture
def quick_start(tmp_path_factory, monkeypatch):
    """Half of what a made run takes is a grammar that nbformat loads, if it is installed."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "rfc3987_syntax.py").write_text("raise ImportError")
    path = [str(folder), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))


@pytest.fixture
def stub(monkeypatch):
    """Instead of processes: runs that sleep `seconds`, and fail where `number` is not above 0.

    Of each start the run's `word`, and the environment.
    """
    starts = []

    def do(run, environment):
        parameters = run.identity["parameters"]
        assert not parameters["lesson"]
        starts.append((parameters["word"], environment))
        time.sleep(parameters["seconds"])
        record(run, "finished" if parameters["number"] > 0 else "failed")

    monkeypatch.setattr(plans, "_do", do)
    return starts


def record(run, state, **about):
    """As if that had come of the run."""
    reason = "too small" if state == "failed" else ""
    content = {
        "state": state,
        "reason": reason,
        "seconds": 90,
        "finished": f"{time.monotonic():.6f}",
    }
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "run.json").write_text(json.dumps(content | about))


def states(runs):
    return [run.record()["state"] for run in runs]


def wait(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this never happened"
        time.sleep(0.1)


def kernels(folder):
    """Process ids of the kernels that were started for runs under a folder."""
    return [int(file.name.removeprefix("kernel")) for file in folder.rglob("kernel*")]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.is_file() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


GOOD = "seeds: 2\ngrid: {number: [1, 2], word: two}\n"


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("seeds", "sedes", "made.yml.*sedes.*Extra inputs"),
        ("seeds: 2", "seeds: two", "seeds.*valid integer.*'two'"),
        ("seeds: 2", "seeds: 0", "seeds.*greater than 0"),
        ("seeds: 2", "seeds: -1", "seeds.*greater than 0"),
        ("seeds: 2", "seeds: true", "seeds.*valid integer"),
        ("seeds: 2", "seeds: 2.5", "seeds.*valid integer"),
        ("seeds: 2", "seeds: 1000000000", "seeds.*less than or equal to 1000"),
        ("seeds: 2", "minutes: -5", "minutes.*greater than 0"),
        ("seeds: 2", "minutes: true", "minutes.*valid number"),
        ("seeds: 2", "minutes: .nan", "minutes.*finite number"),
        ("seeds: 2", "minutes: .inf", "minutes.*finite number"),
        ("seeds: 2", "minutes: 9999999", "minutes.*less than"),
        ("seeds: 2", "seeds: !!python/name:os.system", "could not determine a constructor"),
        ("grid: {number: [1, 2], word: two}", "grid: []", "made.yml.*valid dictionary"),
        ("[1, 2]", "[]", "number.*valid integer"),
        ("[1, 2]", "[1, []]", "number.*valid integer"),
        ("[1, 2]", "&all [*all]", "made.yml.*recursion"),
        ("[1, 2]", "[" * 2_000, "made.yml.*recursion"),
        ("[1, 2]", "2020-01-01", "number.*valid integer"),
        ("two", "2020-01-01", "word.*valid string"),
        ("two", "010", "word.*valid string"),
        ("[1, 2]", "1:30", "number.*valid integer"),
        ("[1, 2]", "yes", "number.*valid integer"),
        ("seeds: 2", "seeds: 2\nseeds: 3", 'made.yml.*duplicate key "seeds"'),
        ("two", "", "word.*valid string.*None"),
        ("number", "1", "made.yml.*Keys should be strings|made.yml.*valid string"),
        ("number", "[a, b]", "made.yml.*Keys should be strings"),
        ("number", "\xff", "nummer|Extra inputs"),
        ("grid: ", "gird: ", "grid.*required"),
        ("{number: [1, 2], word: two}", "[number, word]", "grid.*valid dictionary"),
        ("seeds", "minutes: soon\nseeds", "minutes.*valid number.*'soon'"),
        ("number", "nummer", "made.ipynb.*nummer.*Extra inputs"),
        ("two", "2", "word.*valid string"),
        ("word: two", "word: two, seed: 3", "made.ipynb less .'seed'.*seed.*Extra inputs"),
        ("word: two", "word: two, out: here", "made.ipynb less .*out.*Extra inputs"),
        ("word: two", "word: two, lesson: true", "made.ipynb less .*lesson.*Extra inputs"),
        ("[1, 2]", "[1, true]", "number.*valid integer.*True"),
        ("made.ipynb", "gone.ipynb", "made.yml.*gone.ipynb"),
        ("made.ipynb", ".", "made.yml.*directory"),
        ("made.ipynb", "made.yml", "made.yml.*not appear to be JSON"),
    ],
)
def test_a_plan_that_will_not_do(plan, tmp_path, old, new, message):
    file = plan(GOOD)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    refused(file, tmp_path, message)


def refused(file, tmp_path, message):
    """At once, in one sentence that names the plan."""
    start = time.monotonic()
    with pytest.raises(ValueError, match="made.yml") as caught:
        plans.expand(file, tmp_path / "runs")
    assert caught.match(f"(?s){message}")
    assert time.monotonic() - start < 30  # not the hours that it would take to expand
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "valid dictionary"),
        (b"[1, 2]", "valid dictionary"),
        (b"just words", "valid dictionary"),
        ("grid: {word: größer}".encode("latin-1"), "unacceptable character"),
        (bytes(range(256)), "unacceptable character"),
        (b"grid: {", "line 1"),
    ],
)
def test_files_that_are_no_plan(tmp_path, content, message):
    file = tmp_path / "made.yml"
    file.write_bytes(content)
    refused(file, tmp_path, message)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "null", "{'cells': 3}", '{"cells": [], "nbformat": 9}', "\0"],
)
def test_a_notebook_that_is_none(plan, tmp_path, content):
    file = plan(GOOD)
    (tmp_path / "made.ipynb").write_text(content)
    refused(file, tmp_path, "")


def test_a_parameter_that_is_not_a_literal(plan, tmp_path):
    refused(plan(GOOD, "number = 1 / 3"), tmp_path, "malformed")


@pytest.mark.parametrize(
    "grid, message",
    [
        ("loss: [ce, cd]", "loss"),
        ("recipe: relesed", "recipe: expected 'released' or 'paper'; found 'relesed'"),
        ("profile: gpu", "profile: expected 'ci', 'demo', 'cpu' or 'paper'; found 'gpu'"),
        ("changes: {frm: printed}", "frm"),
        ("changes: {form: painted}", "form"),
        ("changes: {form: [released, printed], lr: [-1e-5]}", "lr"),
        ("changes: form", "changes"),
        ("dataset: supersens", "dataset: expected one of .*found 'supersens'"),
        ("dataset: gone.csv", "gone.csv"),
        ("classes: 4-hard-z", "classes: expected one of .*found '4-hard-z'"),
        ("classes: 4-hard-a, dataset: isear", "classes: expected one of .*found '4-hard-a'"),
        ("dataset: empatheticdialogues, classes: a.csv", "classes: expected one of .*'8'"),
        ("encoder: no/such-encoder", "'no/such-encoder' could not be loaded"),
    ],
)
def test_values_that_the_training_would_not_take(plan, tmp_path, grid, message):
    file = plan(f"grid: {{{grid}}}", LIKE_04)
    with pytest.raises((ValueError, RuntimeError, OSError), match=message):
        plans.expand(file, tmp_path / "runs")


def test_expansion_order_and_identity(plan, tmp_path, monkeypatch):
    text = (
        "seeds: 2\ngrid:\n- {loss: ce}\n"
        "- {loss: lcl, changes: {form: [released, printed], detach_weights: [true, false]}}\n"
        "- {loss: scl, changes: [{}, {lr: 1.0e-4, form: released}]}\n- {loss: ce}"
    )
    file = plan(text, LIKE_04)
    runs = plans.expand(file, tmp_path)
    seeds = [run.identity["parameters"]["seed"] for run in runs]
    assert seeds == [0] * 7 + [1] * 7  # the same run once only
    changes = [run.identity["parameters"]["changes"] for run in runs[:7]]
    assert changes == [
        {},
        {"form": "released", "detach_weights": True},
        {"form": "released", "detach_weights": False},
        {"form": "printed", "detach_weights": True},
        {"form": "printed", "detach_weights": False},
        {},
        {"lr": 1e-4, "form": "released"},
    ]
    assert all(run.identity["parameters"]["lesson"] is False for run in runs)
    names = [run.folder.name.rpartition("-")[0] for run in runs]
    assert names[0] == "ci-released-supersense-minilm-ce-seed0"
    assert names[4] == "ci-released-supersense-minilm-lcl-form-printed-detach_weights-False-seed0"

    def chosen(*only):
        return [run.folder for run in plans.expand(file, tmp_path, only)]

    assert chosen("loss=ce", "seed=1") == [runs[7].folder]
    assert chosen("lr=1e-4", "seed=0") == [runs[6].folder]  # as a number, not as it is spelled
    assert chosen("form=printed,painted", "seed=0") == [runs[3].folder, runs[4].folder]
    assert chosen(" Form = Printed", "detach_weights=true", "seed = 0") == [runs[3].folder]
    for only in ("los=ce", "loss=all", "loss", "loss=", "=ce", "seed=0x"):
        with pytest.raises(
            ValueError, match=f"only: {only} leaves no run; parameters: profile, recipe"
        ):
            chosen(only)

    def folder(text=text):
        return plans.expand(plan(text, LIKE_04), tmp_path)[0].folder

    assert folder() == runs[0].folder == folder(text + "\nminutes: 1")
    monkeypatch.setenv("LCLKIT_PROFILE", "ci")
    file = plan(text, LIKE_04.replace('"ci"', '""'))  # as the notebooks have it
    assert plans.expand(file, tmp_path)[0].folder == runs[0].folder
    monkeypatch.setitem(plans.paper._DATA["profiles"]["ci"], "lr", 1e-3)
    assert folder() != runs[0].folder
    monkeypatch.undo()
    assert folder(text.replace("ce", "ce, changes: {lr: 1e-4}", 1)) != runs[0].folder
    monkeypatch.setattr("lclkit.results.RESULTS_VERSION", 1_000)
    changed = folder()
    assert changed != runs[0].folder
    monkeypatch.setattr(plans, "_hash", lambda *_: "another")
    assert folder() not in (changed, runs[0].folder)


def test_contents_of_files_name_a_run(plan, made, tmp_path, monkeypatch):
    monkeypatch.setenv("LCLKIT_DATA", str(tmp_path / "root"))
    own = tmp_path / "own.csv"
    file = plan(f"grid: {{dataset: [isear, {own}]}}", LIKE_04)
    made("isear")
    own.write_text("text,label")
    first = plans.expand(file, tmp_path)
    for changed in (own, tmp_path / "root" / "isear" / "isear.csv"):
        changed.write_text("other")
    plans._hash.cache_clear()
    second = plans.expand(file, tmp_path)
    for before, after in zip(first, second, strict=True):
        assert before.folder != after.folder


def test_paths_of_ones_own_data(plan, tmp_path, monkeypatch):
    """In any letter case, with `~`, from the working folder; or a folder of three files."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # Windows
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    rows = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40))
    (tmp_path / "UP.CSV").write_text(f"text,label\n{rows}")
    three = tmp_path / "three"
    three.mkdir()
    for split in ("train", "valid", "test"):
        (three / f"{split}.csv").write_text("text,label\n" + rows.replace("text", split))

    def hashes():
        plans._hash.cache_clear()
        file = plan("grid: {dataset: [~/UP.CSV, ../UP.CSV, ../three, ~/three]}", LIKE_04)
        runs = plans.expand(file, tmp_path / "runs")
        return [run.identity["hashes"][run.identity["parameters"]["dataset"]] for run in runs]

    before = hashes()
    assert before[0] == before[1] != before[2] == before[3]
    (three / "test.csv").write_text(f"text,label\n{rows}")
    assert hashes()[:2] == before[:2] and hashes()[2] != before[2]
    (three / "valid.csv").unlink()
    with pytest.raises(ValueError, match="made.yml: dataset: expected .*csv.*found '../three'"):
        hashes()


@pytest.mark.parametrize("word", ["感情" * 60, "é" * 90, "a" * 300, "🙂" * 40])
def test_long_names_in_any_letters(plan, tmp_path, word):
    """A file system takes 255 bytes, and Windows 260 characters of a whole path."""
    (run,) = plans.expand(plan(f"grid: {{word: {word}}}"), tmp_path / "runs")
    assert len(run.folder.name.encode()) < 110
    plans.files.writable(run.folder)


@pytest.mark.parametrize(
    "name, number",
    [
        ("smoke", 6),
        ("table1", 80),
        ("table2", 50),
        ("table3", 270),
        ("figure2", 45),
        ("search", 270),
        ("ablations", 96),
        ("ablation-demo", 30),
        ("minilm-all", 210),
        ("minilm-full", 63),
        ("minilm-ablations", 42),
        ("mpnet", 117),
        ("beyond", 39),
    ],
)
def test_the_plans_expand(own_cache, tmp_path, name, number):
    if not (plans.PLANS.parent / "04_training.ipynb").is_file():
        pytest.skip("notebook 04 is not there yet")
    runs = plans.expand(name, tmp_path, download=False)
    assert len(runs) == len({run.folder for run in runs}) == number
    assert max(len(run.folder.name) for run in runs) <= 100
    assert not list(own_cache.rglob("*.csv"))


def test_every_plan_is_tested():
    marks = test_the_plans_expand.pytestmark[0].args[1]
    assert {path.stem for path in plans.PLANS.glob("*.yml")} == {name for name, _ in marks}


def test_shares(plan, stub, tmp_path):
    """They have every run once, whatever is finished; a share may be empty."""
    file = plan("seeds: 2\ngrid: {number: [1, 2, 3]}")
    whole = plans.expand(file, tmp_path)
    shares = [plans.expand(file, tmp_path, shard=f"{number}/4") for number in range(4)]
    assert shares[1] == whole[1::4] and sorted(map(len, shares)) == [1, 1, 2, 2]
    record(whole[0], "finished")
    assert plans.expand(file, tmp_path, shard="1/4") == shares[1]
    assert not plans.expand(file, tmp_path, shard="7/8")
    plans.replicate([])
    for wrong in ("4/4", "1", "1/", "/4", "-1/4", "1/4/2", "a/b", "1.0/4", ""):
        with pytest.raises(ValueError, match="shard: expected I/N, with I from 0 to N-1; found"):
            plans.expand(file, tmp_path, shard=wrong)


@pytest.mark.slow
def test_runs_that_fail_hang_or_are_killed(plan, quick_start, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    windows = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for name, value in (windows | {"PYTHONIOENCODING": "cp1252"}).items():
        monkeypatch.setenv(name, value)  # not UTF-8, and the notebook prints Ψ
    text = "grid:\n- {word: bad, number: 0}\n- {word: hangs}\n- word: [die, killed, good]\n"
    bad, hangs, died, killed, good = plans.expand(plan(text), tmp_path / "runs")
    runs = [bad, replace(hangs, minutes=0.12), died, killed, good]
    plans.replicate(runs, jobs=5)
    assert states(runs) == ["failed"] * 4 + ["finished"]
    assert bad.record()["reason"] == "AssertionError: too small"
    assert "assert number > 0" in (bad.folder / "log.txt").read_text()
    assert hangs.record()["reason"] == "took longer than its limit of 0.12 minutes"
    assert 7 <= hangs.record()["seconds"] < 20
    assert died.record()["reason"] == "ended with status -9, see log.txt"
    said = "Kernel died, perhaps out of memory: fewer --jobs may help"
    assert killed.record()["reason"].endswith(said)
    for run in (hangs, killed):
        assert (run.folder / "made.ipynb").is_file()
    wait(lambda: not any(map(is_alive, kernels(tmp_path))), 20)
    assert (good.folder / "made.ipynb").is_file()
    assert "Ψ" in (good.folder / "log.txt").read_text(encoding="utf-8")
    assert {"versions", "git_commit", "identity"} <= good.record().keys()
    assert (good.folder / "threads").read_text() == "3"
    assert f"AssertionError: too small: {bad.folder}" in capfd.readouterr().out


@pytest.mark.slow
def test_runners_that_are_killed_or_interrupted(plan, quick_start, tmp_path, monkeypatch, request):
    """Two do nothing twice. One is killed, the other takes over; Ctrl-C: no process is left."""
    file = plan("grid:\n- {}\n- {word: slow, seconds: 900}")
    command = [sys.executable, "-m", "lclkit", "replicate", file, "--out", tmp_path / "runs"]
    runners = []
    for _ in range(2):
        runner = subprocess.Popen([*command, "--jobs", "2"], stderr=subprocess.PIPE, text=True)
        request.addfinalizer(runner.kill)
        runners.append(runner)
    killed, interrupted = runners
    quick, slow = plans.expand(file, tmp_path / "runs")
    wait(lambda: quick.record()["state"] == "finished" and kernels(slow.folder))
    killed.kill()
    killed.communicate()
    time.sleep(2)  # its runs end, and the other takes over, if it is not at it already
    wait(lambda: any(map(is_alive, kernels(slow.folder))))
    interrupted.send_signal(signal.SIGINT)
    _, error = interrupted.communicate(timeout=10)
    assert interrupted.returncode == 130
    assert error == "\nStopped. What is finished is kept.\n"
    wait(lambda: not any(map(is_alive, kernels(tmp_path))), 20)
    assert len(kernels(quick.folder)) == 1 and slow.record()["state"] == "missing"
    monkeypatch.setattr(plans, "_do", lambda run, _: record(run, "finished", again=True))
    plans.replicate([quick, slow])
    assert [run.record().get("again") for run in (quick, slow)] == [None, True]


def test_what_failed_is_tried_again_and_what_finished_is_not(plan, stub, tmp_path):
    runs = plans.expand(plan("grid:\n- {word: bad, number: 0}\n- {word: good}"), tmp_path / "runs")
    for _ in range(2):
        plans.replicate(runs)
        assert states(runs) == ["failed", "finished"]
    assert [word for word, _ in stub] == ["bad", "good", "bad"]


def test_preview(plan, tmp_path, capsys):
    text = "seeds: 2\ngrid:\n- {word: bad, number: 0}\n- {word: good}"
    runs = plans.expand(plan(text), tmp_path / "runs")
    assert plans.preview(runs) == ["missing"] * 4
    assert "4 runs: 0 finished, 0 failed, 4 missing" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    record(runs[0], "failed")
    record(runs[1], "finished")
    assert plans.preview(runs) == ["failed", "finished", "missing", "missing"]
    _, *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["≤", "720", "failed", runs[0].folder.name, "too", "small"],
        ["1.5", "finished", runs[1].folder.name],
        ["≤", "720", "missing", runs[2].folder.name],
        ["1.5", "missing", runs[3].folder.name],
    ]
    assert last == "4 runs: 1 finished, 1 failed, 2 missing"


def test_preview_says_what_is_not_here(plan, own_cache, tmp_path, capsys):
    grid = "{dataset: [isear, supersense], encoder: [minilm, no/such-encoder]}"
    plans._hash.cache_clear()
    plans.preview(plans.expand(plan(f"grid: {grid}", LIKE_04), tmp_path, download=False))
    lines = capsys.readouterr().out.splitlines()[1:-1]
    needs = [line.split("  needs ")[1:] for line in lines]
    assert needs == [["isear"], ["isear, no/such-encoder"], [], ["no/such-encoder"]]


def other(file):
    """The same plan, under another name."""
    copy = file.with_name("other.yml")
    copy.write_text(file.read_text())
    return copy


def test_what_another_plan_finished_is_not_run_again(plan, stub, tmp_path):
    file = plan("grid: {number: 0}")
    (run,), (theirs,) = (plans.expand(each, tmp_path / "runs") for each in (file, other(file)))
    assert run.folder.name == theirs.folder.name and run.folder != theirs.folder
    record(theirs, "failed", plan="other")
    record(run, "failed", plan="made")
    assert run.record()["plan"] == theirs.record()["plan"] == "made"  # the later
    record(theirs, "finished", plan="other")
    record(run, "failed", plan="made")
    assert run.record() == theirs.record() and run.record()["plan"] == "other"
    plans.replicate([run])
    assert not stub


@pytest.mark.parametrize("number", [1, 0])
def test_two_plans_at_once_do_a_run_once(plan, stub, tmp_path, number):
    """Whether it finishes or fails: the other takes the record."""
    file = plan(f"seeds: 2\ngrid: {{seconds: 0.5, number: {number}}}")
    both = [plans.expand(each, tmp_path / "runs") for each in (file, other(file))]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(plans.replicate, both))
    assert len(stub) == 2 and len(list(tmp_path.rglob("run.json"))) == 2


def test_another_runner_takes_over(plan, stub, tmp_path):
    """While one is at a run, another waits; if the first is gone without a record, that does it."""
    (run,) = plans.expand(plan("grid: {}"), tmp_path / "runs")
    (tmp_path / "runs").mkdir()
    with ThreadPoolExecutor(1) as pool:
        with plans.FileLock(tmp_path / "runs" / f".{run.folder.name}.lock"):
            waiting = pool.submit(plans.replicate, [run])
            time.sleep(0.5)
            assert not waiting.done() and not stub
        waiting.result(timeout=20)
    assert len(stub) == 1


def test_an_error_of_the_runner_itself_is_raised(plan, tmp_path, monkeypatch):
    def do(*_):
        raise OSError("no space left")

    monkeypatch.setattr(plans, "_do", do)
    runs = plans.expand(plan("seeds: 3\ngrid: {}"), tmp_path / "runs")
    with pytest.raises(
        OSError, match="runs: no space left; free space, or say --out .* call again"
    ):
        plans.replicate(runs)
    assert not list(tmp_path.rglob("run.json"))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b'"x"', b"\xff\0", b'{"state": "finished"}', None]
)
def test_a_record_that_is_none(plan, stub, tmp_path, content):
    """Empty after a power cut, of another program, or a folder: named, and the run is done again.

    It hinders neither the list nor other runs.
    """
    runs = plans.expand(plan("grid: {word: [one, two]}"), tmp_path / "runs")
    file = runs[0].folder / "run.json"
    runs[0].folder.mkdir(parents=True)
    file.mkdir() if content is None else file.write_bytes(content)
    record(runs[1], "finished")
    with pytest.warns(UserWarning, match=f"{re.escape(str(file))} is no record of a run"):
        assert plans.preview(runs) == ["missing", "finished"]
    if content is not None:
        with pytest.warns(UserWarning, match="counts for nothing"):
            plans.replicate(runs)
        assert [word for word, _ in stub] == ["one"] and states(runs) == ["finished"] * 2


@pytest.mark.skipif(sys.platform == "win32", reason="which has other locks")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(plan, stub, tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    runs = plans.expand(plan("seeds: 2\ngrid: {}"), tmp_path / "runs")
    if number == errno.ENOSYS:  # filelock then makes files, which it also finds stale
        with warnings.catch_warnings(action="ignore"):
            plans.replicate(runs)
        return
    with pytest.raises(
        OSError, match="runs: .*; free space, or say --out with a local disk"
    ) as got:
        plans.replicate(runs, jobs=2)
    assert str(tmp_path) in str(got.value) and os.strerror(number) in str(got.value) and not stub


def test_an_out_that_cannot_be_written(plan, stub, tmp_path):
    (tmp_path / "file").write_text("")
    (run,) = plans.expand(plan("grid: {}"), tmp_path / "file")
    with pytest.raises(OSError, match="cannot write to"):
        plans.replicate([run])
    assert not stub


def test_out_in_the_home_folder(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (run,) = plans.expand(plan("grid: {}"), Path("~/runs"))
    assert run.folder.parents[1] == (tmp_path / "runs").resolve()


@pytest.mark.slow
def test_the_kernel_is_this_python(plan, quick_start, tmp_path, monkeypatch):
    """Whatever `python3` stands for here, and whoever's kernel the notebook was saved with."""
    for name in ("python3", "theirs"):
        folder = tmp_path / "jupyter" / "kernels" / name
        folder.mkdir(parents=True)
        argv = ["/nowhere/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": argv, "display_name": name, "language": "python"}
        (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    file = plan("grid: {}")
    notebook = tmp_path / "made.ipynb"
    notebook.write_text(notebook.read_text().replace('"python3"', '"theirs"'))
    runs = plans.expand(file, tmp_path / "runs")
    plans.replicate(runs)
    assert states(runs) == ["finished"], runs[0].record()["reason"]


def test_devices_and_cores_are_shared(plan, stub, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "all")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    runs = plans.expand(plan("seeds: 4\ngrid: {seconds: 0.5}"), tmp_path / "runs")
    plans.replicate(runs[:3], jobs=3, devices=["4", "6"])
    plans.replicate(runs[3:])
    found = [(each["CUDA_VISIBLE_DEVICES"], each["OMP_NUM_THREADS"]) for _, each in stub]
    assert sorted(found[:3]) == [("4", "2"), ("4", "2"), ("6", "2")] and found[3] == ("all", "8")


def test_a_run_gets_the_device_that_is_free(plan, stub, tmp_path):
    runs = plans.expand(plan("grid: {seconds: [1, 0, 0.1]}"), tmp_path)
    plans.replicate(runs, jobs=2, devices=["4", "6"])
    counts = Counter(each["CUDA_VISIBLE_DEVICES"] for _, each in stub)
    assert sorted(counts.values()) == [1, 2]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates()
VALUES = st.recursive(
    SCALARS, lambda part: st.lists(part, max_size=3) | st.dictionaries(SCALARS, part, max_size=3)
)
KEYS = st.sampled_from(["notebook", "seeds", "minutes", "grid", "claims"])
NAMES = st.sampled_from(["number", "seconds", "word", "seed"])
GRIDS = st.dictionaries(NAMES, VALUES, min_size=1, max_size=3)


@given(content=st.dictionaries(KEYS, GRIDS | VALUES, min_size=1) | VALUES)
def test_any_plan_expands_or_is_one_error_that_names_it(plan, tmp_path, content):
    file = plan("")
    if isinstance(content, dict):
        content = {"notebook": "made.ipynb"} | content
    file.write_text(yaml.safe_dump(content))
    expands_or_names(file, tmp_path)


@given(at=st.integers(0, 250), length=st.integers(0, 9), new=st.text(max_size=5))
@pytest.mark.parametrize("name", ["smoke", "search"])
def test_any_change_of_a_plan_expands_or_is_one_error_that_names_it(
    tmp_path, name, at, length, new
):
    text = (plans.PLANS / f"{name}.yml").read_text(encoding="utf-8").replace("..", "NOTEBOOKS", 1)
    text = text[:at] + new + text[at + length :]
    file = tmp_path / "made.yml"
    notebooks = str(plans.PLANS.parent)
    file.write_bytes(text.replace("NOTEBOOKS", notebooks).encode(errors="surrogatepass"))
    expands_or_names(file, tmp_path)


def expands_or_names(file, tmp_path):
    start = time.monotonic()
    try:
        runs = plans.expand(file, tmp_path / "runs", download=False)
    except ValueError as error:
        assert "made.yml" in str(error) and time.monotonic() - start < 10
    else:
        assert runs and all(len(run.folder.name.encode()) < 110 for run in runs)
