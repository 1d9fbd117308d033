"""Plans: what they may say, and that nothing is lost or done twice, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import nbformat
import psutil
import pytest

from lclkit import __main__ as commands
from lclkit import notebook, replicate

WORK = """
import os, signal, time
from pathlib import Path
Path(out, f"kernel{os.getpid()}").touch()
time.sleep(seconds)
if word == "die":
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(900)
assert number > 0, "too small"
Path(out, "threads").write_text(os.environ["OMP_NUM_THREADS"])
"""
PARAMETERS = """number = 1\nseconds = 0.0\nword = "one"\nseed = 0\nlesson = True\nout = "runs\""""
LIKE_04 = """profile = "ci"\nrecipe = "released"\ndataset = "supersense"\nclasses = ""
encoder = "minilm"\nloss = "lcl"\nseed = 0\nchanges = ""\nlesson = True\nout = "runs\""""


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
        file.write_text(text, encoding="utf-8")
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

    def run_apart(notebook, folder, parameters, minutes, environment):
        starts.append((parameters["word"], environment))
        time.sleep(parameters["seconds"])
        assert parameters["out"] == str(folder) and not parameters["lesson"]
        reason = "" if parameters["number"] > 0 else "too small"
        record = {"state": "failed" if reason else "finished", "reason": reason, "log": []}
        return record | {"seconds": 90, "memory_gb": None}

    monkeypatch.setattr(notebook, "run_apart", run_apart)
    return starts


def wait(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this never happened"
        time.sleep(0.1)


def kernels(folder):
    """Process ids of the kernels that were started for runs under a folder."""
    return [int(file.name.removeprefix("kernel")) for file in folder.rglob("kernel*")]


def is_alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


GOOD = "notebook: made.ipynb\nseeds: 2\ngrid: {number: [1, 2], word: two}\n"


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("seeds", "sedes", "made.yml has no parameter 'sedes'; it has notebook, seeds"),
        ("seeds: 2", "seeds: two", "seeds: expected int, found 'two'"),
        ("grid: ", "gird: ", "expected a mapping with a grid"),
        ("{number: [1, 2], word: two}", "[number, word]", "expected a mapping with a grid"),
        ("{number", "[number", "expected a mapping with a grid"),
        ("seeds", "minutes: soon\nseeds", "minutes: expected float, found 'soon'"),
        ("seeds: 2", "seeds: 0", "leaves no run"),
        ("number", "nummer", "made.ipynb has no parameter 'nummer'; it has number, seconds"),
        ("two", "2", "word: expected str, found 2"),
        ("[1, 2]", "[1, true]", "number: expected int, found True"),
    ],
)
def test_a_plan_that_will_not_do(plan, tmp_path, old, new, message):
    assert old in GOOD
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        replicate.expand(plan(GOOD.replace(old, new)), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "grid, message",
    [
        ("loss: [ce, cd]", "loss: expected one of"),
        ("recipe: relesed", "recipe: expected one of"),
        ("profile: gpu", "profile: expected one of ci, demo, cpu, paper; found 'gpu'"),
        ("changes: 'frm: printed'", "changes: 'frm' is no setting"),
        ("changes: 'form: painted'", "form: expected one of"),
        ("changes: {form: [released, printed], lr: [-1e-5]}", "lr: expected a number above 0"),
        ("dataset: supersens", "unknown data set 'supersens'"),
        ("classes: 4-hard-z", "unknown class subset '4-hard-z'"),
        ("encoder: no/such-encoder", "'no/such-encoder' could not be loaded"),
    ],
)
def test_values_that_the_training_would_not_take(plan, tmp_path, grid, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        replicate.expand(
            plan(f"notebook: made.ipynb\nseeds: 1\ngrid: {{{grid}}}", LIKE_04), tmp_path / "runs"
        )


def test_expansion_order_and_identity(plan, tmp_path, monkeypatch):
    text = (
        "notebook: made.ipynb\nseeds: 2\ngrid:\n- {loss: ce}\n"
        "- {loss: lcl, changes: {form: [released, printed], detach_weights: [true, false]}}\n"
        "- {loss: ce}"
    )
    file = plan(text, LIKE_04)
    runs = replicate.expand(file, tmp_path)
    assert [run.parameters["seed"] for run in runs] == [0] * 5 + [1] * 5  # the same run once only
    assert [run.parameters["changes"] for run in runs[:5]] == [
        "",
        "form: released, detach_weights: True",
        "form: released, detach_weights: False",
        "form: printed, detach_weights: True",
        "form: printed, detach_weights: False",
    ]
    assert all(
        run.parameters["out"] == str(run.folder) and run.parameters["lesson"] is False
        for run in runs
    )
    assert runs[0].folder.name.startswith("ci-released-supersense-minilm-ce-seed0-")
    few = replicate.expand(file, tmp_path, ["loss=scl,ce", "seed=1"])
    assert [run.folder for run in few] == [runs[5].folder]
    few = replicate.expand(
        file, tmp_path, ["seed=0", "changes=form: released, detach_weights: True,form: printed"]
    )
    assert [run.folder for run in few] == [runs[1].folder]
    for only, message in (("los=ce", "expected name=value"), ("loss=scl", "leaves no run")):
        with pytest.raises(ValueError, match=message):
            replicate.expand(file, tmp_path, [only])

    def folder(text=text):
        return replicate.expand(plan(text, LIKE_04), tmp_path)[0].folder

    assert folder() == runs[0].folder == folder(text + "\nminutes: 1")
    monkeypatch.setenv("LCLKIT_PROFILE", "ci")
    file = plan(text, LIKE_04.replace('"ci"', '""'))  # as the notebooks have it
    assert replicate.expand(file, tmp_path)[0].folder == runs[0].folder
    monkeypatch.setitem(replicate.paper._DATA["profiles"]["ci"], "lr", 1e-3)
    assert folder() != runs[0].folder
    monkeypatch.undo()
    assert folder(text.replace("ce", "ce, changes: 'lr: 1e-4'", 1)) != runs[0].folder
    monkeypatch.setattr("lclkit.training.RESULTS_VERSION", 1_000)
    changed = folder()
    assert changed != runs[0].folder
    monkeypatch.setattr(replicate, "_hashes", lambda *_: {"supersense": "another"})
    assert folder() not in (changed, runs[0].folder)


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
        ("minilm-all", 120),
    ],
)
def test_the_plans_expand(own_cache, tmp_path, name, number):
    if not (replicate.PLANS.parent / "04_training.ipynb").is_file():
        pytest.skip("notebook 04 is not there yet")
    runs = replicate.expand(name, tmp_path, dry=True)
    settings = {json.dumps(run.identity["parameters"]) for run in runs}
    assert len(settings) == number
    assert not list(own_cache.rglob("*.csv"))


def test_every_plan_is_tested():
    marks = test_the_plans_expand.pytestmark[0].args[1]
    assert {path.stem for path in replicate.PLANS.iterdir()} == {name for name, _ in marks}


def test_runs_that_fail_hang_or_are_killed(plan, quick_start, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    text = (
        "notebook: made.ipynb\nseeds: 1\ngrid:\n- {word: bad, number: 0}\n"
        "- {word: hangs, seconds: 900}\n- word: [die, good]\n"
    )
    bad, hangs, died, good = replicate.expand(plan(text), tmp_path / "runs")
    runs = [bad, replace(hangs, minutes=0.25), died, good]
    assert replicate.replicate(runs, jobs=4) == 3
    assert [run.record["state"] for run in runs] == ["failed"] * 3 + ["finished"]
    assert bad.record["reason"] == "AssertionError: too small"
    assert any("assert number > 0" in line for line in bad.record["log"])
    assert hangs.record["reason"] == "took longer than its limit of 0.25 minutes"
    assert 15 <= hangs.record["seconds"] < 30
    assert died.record["reason"] == "killed by signal 9"
    wait(lambda: not any(map(is_alive, kernels(tmp_path))), 20)
    for run in (bad, died):
        assert kernels(run.folder) and (run.folder / "made.unfinished.ipynb").is_file()
        assert not (run.folder / "made.ipynb").exists()
    assert (good.folder / "made.ipynb").is_file() and not good.record["log"]
    assert not (good.folder / "made.unfinished.ipynb").exists()
    for run in (bad, good):
        assert 0.03 < run.record["memory_gb"] < 4
    assert {"versions", "git_commit", "identity"} <= good.record.keys()
    assert (good.folder / "threads").read_text() == "3"
    out = capfd.readouterr().out
    assert "4 runs: 1 finished, 3 failed" in out and f"too small: {bad.folder / 'log.txt'}" in out


def test_kill_and_repeat(plan, quick_start, tmp_path, monkeypatch, request):
    """kill -9 of the runner: no process is left, and what was finished is not run again."""
    file = plan("notebook: made.ipynb\nseeds: 1\ngrid:\n- {}\n- {word: slow, seconds: 900}")
    command = [sys.executable, "-m", "lclkit", "replicate", file, "--out", tmp_path / "runs"]
    runner = subprocess.Popen([*command, "--jobs", "2"], stderr=subprocess.DEVNULL)
    request.addfinalizer(runner.kill)
    quick, slow = replicate.expand(file, tmp_path / "runs")
    wait(lambda: quick.record["state"] == "finished" and kernels(slow.folder))
    runner.kill()
    wait(lambda: not any(map(is_alive, kernels(tmp_path))), 20)
    assert slow.record["state"] == "missing"
    tried = []

    def run_apart(notebook, folder, *_):
        tried.append(folder)
        return {"state": "finished", "reason": "", "seconds": 1}

    monkeypatch.setattr(notebook, "run_apart", run_apart)
    assert replicate.replicate([quick, slow]) == 0
    assert tried == [slow.folder] and slow.record["state"] == "finished"


def test_what_failed_is_tried_again_and_what_finished_is_not(plan, stub, tmp_path, capsys):
    text = "notebook: made.ipynb\nseeds: 1\ngrid:\n- {word: bad, number: 0}\n- {word: good}"
    runs = replicate.expand(plan(text), tmp_path / "runs")
    assert [replicate.replicate(runs), replicate.replicate(runs)] == [1, 1]
    assert [word for word, _ in stub] == ["bad", "good", "bad"]
    out, err = capsys.readouterr()
    assert out.count("good-seed0") == 1 and out.count("2 runs: 1 finished, 1 failed") == 2
    assert "2/2" in err


def test_preview(plan, stub, tmp_path, capsys):
    text = "notebook: made.ipynb\nseeds: 2\ngrid:\n- {word: bad, number: 0}\n- {word: good}"
    runs = replicate.expand(plan(text), tmp_path / "runs")
    replicate.preview(runs, tmp_path / "runs")
    assert "4 runs: 0 finished, 0 failed, 4 missing" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    replicate.replicate(runs[:2])
    capsys.readouterr()
    replicate.preview(runs, tmp_path / "runs")
    _, *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["failed", runs[0].folder.name],
        ["1.5", "finished"],
        ["missing", runs[2].folder.name],
        ["1.5", "missing"],
    ]
    assert lines[0].endswith("too small") and last.startswith("4 runs: 1 finished, 1 failed, 2 mis")


def test_preview_says_what_is_not_here(plan, own_cache, tmp_path, capsys):
    grid = "{dataset: [isear, supersense], encoder: [minilm, no/such-encoder]}"
    file = plan(f"notebook: made.ipynb\nseeds: 1\ngrid: {grid}", LIKE_04)
    replicate.preview(replicate.expand(file, tmp_path, dry=True), tmp_path)
    lines = capsys.readouterr().out.splitlines()[1:-1]
    needs = [line.split("  needs ")[1:] for line in lines]
    assert needs == [["isear"], ["isear, no/such-encoder"], [], ["no/such-encoder"]]


def test_what_another_plan_finished_is_not_run_again(plan, stub, tmp_path):
    file = plan("notebook: made.ipynb\nseeds: 1\ngrid: {number: 0}")
    file.with_name("other.yml").write_text(file.read_text())
    (run,), (theirs,) = (
        replicate.expand(tmp_path / name, tmp_path / "runs") for name in ("made.yml", "other.yml")
    )
    assert run.folder.name == theirs.folder.name and run.folder != theirs.folder

    def tried(one, state):
        one.folder.mkdir(parents=True, exist_ok=True)
        record = {"state": state, "reason": "", "plan": one.folder.parent.name}
        (one.folder / "run.json").write_text(json.dumps(record))

    assert run.record["state"] == "missing"
    tried(theirs, "failed")
    tried(run, "failed")
    assert run.record["plan"] == "made" and theirs.record["plan"] == "other"
    tried(theirs, "finished")
    assert run.record == theirs.record and run.record["plan"] == "other"
    assert replicate.replicate([run]) == 0 and not stub


@pytest.mark.parametrize("number", [1, 0])
def test_two_plans_at_once_do_a_run_once(plan, stub, tmp_path, number):
    """Whether it finishes or fails: the other takes the record."""
    file = plan(f"notebook: made.ipynb\nseeds: 2\ngrid: {{seconds: 0.5, number: {number}}}")
    file.with_name("other.yml").write_text(file.read_text())
    both = [
        replicate.expand(tmp_path / name, tmp_path / "runs") for name in ("made.yml", "other.yml")
    ]
    with ThreadPoolExecutor(2) as pool:
        failures = list(pool.map(replicate.replicate, both))
    assert len(stub) == 2 and len(list(tmp_path.rglob("run.json"))) == 2
    assert failures == [0, 0] or not number


def test_another_runner_takes_over(plan, stub, tmp_path):
    """While one is at a run, another waits; if the first is gone without a record, that does it."""
    (run,) = replicate.expand(plan("notebook: made.ipynb\nseeds: 1\ngrid: {}"), tmp_path / "runs")
    locks = tmp_path / "runs" / ".locks"
    locks.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        with replicate.FileLock(locks / f"{run.folder.name}.lock"):
            waiting = pool.submit(replicate.replicate, [run])
            time.sleep(1)
            assert not waiting.done() and not stub
        assert waiting.result(timeout=20) == 0 and len(stub) == 1


def test_a_run_whose_record_was_removed_is_run(plan, stub, tmp_path, monkeypatch):
    (run,) = replicate.expand(plan("notebook: made.ipynb\nseeds: 1\ngrid: {}"), tmp_path / "runs")
    before = {run.folder: {"state": "failed", "reason": "too small"}}
    slots = replicate.Queue()
    slots.put({})
    assert replicate._run(run, before, slots, replicate.tqdm(disable=True))
    assert run.record["state"] == "finished" and len(stub) == 1


def test_an_error_of_the_runner_itself_is_raised(plan, tmp_path, monkeypatch):
    def run_apart(*_):
        raise OSError("no space left")

    monkeypatch.setattr(notebook, "run_apart", run_apart)
    runs = replicate.expand(plan("notebook: made.ipynb\nseeds: 3\ngrid: {}"), tmp_path / "runs")
    with pytest.raises(OSError, match="no space left"):
        replicate.replicate(runs)
    assert not list(tmp_path.rglob("run.json"))


def test_devices_and_cores_are_shared(plan, stub, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "all")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    runs = replicate.expand(
        plan("notebook: made.ipynb\nseeds: 4\ngrid: {seconds: 0.5}"), tmp_path / "runs"
    )
    assert replicate.replicate(runs[:3], jobs=3, devices=["4", "6"]) == 0
    assert replicate.replicate(runs[3:]) == 0
    found = [(each["CUDA_VISIBLE_DEVICES"], each["OMP_NUM_THREADS"]) for _, each in stub]
    assert sorted(found[:3]) == [("4", "2"), ("4", "2"), ("6", "2")] and found[3] == ("all", "8")


def test_a_run_gets_the_device_that_is_free(plan, stub, tmp_path):
    text = "notebook: made.ipynb\nseeds: 1\ngrid: {seconds: [1, 0, 0.1], word: one}"
    runs = replicate.expand(plan(text), tmp_path)
    assert replicate.replicate(runs, jobs=2, devices=["4", "6"]) == 0
    counts = Counter(each["CUDA_VISIBLE_DEVICES"] for _, each in stub)
    assert sorted(counts.values()) == [1, 2]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere.yml"], "plan: expected a file or one of"),
        (["smoke", "--jobs", "0"], "above 0"),
        (["smoke", "--jobs", "two"], "--jobs: invalid int"),
        (["smoke", "--only", "los=ce"], "only: expected name=value"),
    ],
)
def test_command_that_will_not_do(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["lclkit", "replicate", *arguments])
    try:
        code = commands.main()
    except SystemExit as error:  # argparse
        code = error.code
    assert code == 2 and message in capsys.readouterr().err


def test_command(plan, tmp_path, monkeypatch, capsys):
    """What is asked for reaches the runner; a run that failed is an exit status of 1."""
    seen = []

    def run(runs, jobs, devices):
        seen.append((len(runs), jobs, devices, signal.getsignal(signal.SIGINT)))
        return len(runs) - 2

    file = plan(GOOD)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(replicate, "replicate", run)
    command = ["lclkit", "replicate", str(file), "--out", str(tmp_path / "runs")]
    more = ["--jobs", "3", "--only", "number=2", "seed=0,1", "--device", "0,2"]
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(sys, "argv", command + more)
    assert commands.main() == 0
    monkeypatch.setattr(sys, "argv", command)
    assert commands.main() == 1
    signal.signal(signal.SIGINT, handler)
    # Ctrl-C ends the runner as kill does, and so its runs
    assert seen == [(2, 3, ["0", "2"], signal.SIG_DFL), (4, 1, [], signal.SIG_DFL)]
    assert "HF_HUB_OFFLINE" not in os.environ
    monkeypatch.setattr(sys, "argv", [*command, "--dry-run"])
    assert not commands.main() and len(seen) == 2
    assert "4 runs: 0 finished, 0 failed, 4 missing" in capsys.readouterr().out
    assert os.environ["HF_HUB_OFFLINE"] == "1"
