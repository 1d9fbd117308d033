"""The batch runner: what a plan may say; nothing is lost or done twice, whatever happens."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import nbformat
import psutil
import pytest

from lclkit import __main__ as commands
from lclkit import replicate

WORK = """
import os, signal, time
from pathlib import Path
with open(Path(out, "started"), "a") as file:
    file.write("x")
time.sleep(seconds)
if word == "die":
    os.kill(os.getpid(), signal.SIGKILL)
assert number > 0, "too small"
Path(out, "threads").write_text(os.environ.get("OMP_NUM_THREADS", ""))
"""
LIKE_04 = """profile = "ci"\nrecipe = "released"\ndataset = "supersense"\nclasses = ""
encoder = "minilm"
loss = "lcl"\nseed = 0\nchanges = ""\nlesson = True\nout = "runs\""""


@pytest.fixture(autouse=True)
def quick_start(tmp_path_factory, monkeypatch):
    """Half of a made run's time is a grammar that nbformat loads through jsonschema, if it can."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "rfc3987_syntax.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.fixture
def plan(tmp_path):
    """A function that writes a plan and its notebook, and returns the plan's file."""

    def write(
        text,
        parameters="number = 1\nseconds = 0.0\nword = 'one'\nseed = 0\nout = 'runs'",
        work=WORK,
    ):
        made = nbformat.v4.new_notebook(
            metadata={
                "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
            }
        )
        made.cells = [
            nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(work),
        ]
        nbformat.write(made, tmp_path / "made.ipynb")
        file = tmp_path / "made.yml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture
def runner(tmp_path):
    """A function that starts `python -m lclkit replicate`; what it prints goes to printed.txt."""

    def start(*arguments):
        command = [
            sys.executable,
            "-m",
            "lclkit",
            "replicate",
            *map(str, arguments),
            "--out",
            tmp_path / "runs",
        ]
        with open(tmp_path / "printed.txt", "w") as file:
            started.append(
                subprocess.Popen(
                    command,
                    stdout=file,
                    stderr=subprocess.STDOUT,  # a shell may have told it to ignore this
                    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                )
            )
        return started[-1]

    started = []
    yield start
    for process in started:
        process.kill()
        process.wait()


def wait(condition, seconds=90):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "this never happened"
        time.sleep(0.1)
    return found


def at_work(folder):
    """Processes of runs under a folder, and their kernels."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "lclkit.replicate" in process.cmdline() and str(folder) in process.cmdline()[-1]:
                found += [process, *process.children(recursive=True)]
    return found


def starts(folder):
    """How often each run was started, by its parameters `word`."""
    return {
        json.loads(file.read_text())["identity"]["parameters"]["word"]: len(
            (file.parent / "started").read_text()
        )
        for file in folder.rglob("run.json")
    }


GOOD = "notebook: made.ipynb\nseeds: 2\ngrid: {number: [1, 2], word: two}\n"


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("seeds", "sedes", "sedes: expected notebook"),
        ("seeds: 2", "", "seeds: expected notebook"),
        ("seeds: 2", "seeds: two", "seeds: expected notebook"),
        ("grid: ", "gird: ", "expected a mapping with a grid"),
        ("grid: {number: [1, 2], word: two}", "grid: [number, word]", "grid: expected notebook"),
        ("{number", "[number", "expected a mapping with a grid"),
        ("seeds", "minutes: soon\nseeds", "minutes: expected notebook"),
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
    assert (
        runs[0].folder.name.startswith("ci-released-supersense-minilm-ce-seed0-")
        and runs[0].texts > 40_000
    )
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
    file = plan(
        text, LIKE_04.replace('"ci"', '""')
    )  # as the notebooks have it: then the environment says it
    assert replicate.expand(file, tmp_path)[0].folder == runs[0].folder
    assert folder(text.replace("ce", "ce, changes: 'lr: 1e-4'", 1)) != runs[0].folder
    monkeypatch.setattr("lclkit.training.RESULTS_VERSION", 1_000)
    changed = folder()
    assert changed != runs[0].folder
    monkeypatch.setattr(replicate, "_data", lambda *_: ("another", 1))
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
        ("ablations", 144),
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


def test_runs_that_fail_do_not_stop_the_others(plan, tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    text = "notebook: made.ipynb\nseeds: 1\ngrid:\n- {word: bad, number: 0}\n- word: [die, good]"
    runs = replicate.expand(plan(text), tmp_path / "runs")
    replicate.preview(runs, tmp_path / "runs")
    out = capfd.readouterr().out
    assert out.count("~      0.3   1.0  ") == 3 and "3 runs: 0 finished, 3 to do" in out
    assert not (tmp_path / "runs").exists()

    assert replicate.replicate(runs, jobs=2) == 2
    bad, died, good = runs
    assert bad.record["state"] == died.record["state"] == "failed"
    assert (
        bad.record["reason"] == "AssertionError: too small"
        and "Kernel died" in died.record["reason"]
    )
    assert any("assert number > 0" in line for line in bad.record["log"])
    assert (bad.folder / "made.failed.ipynb").is_file() and (good.folder / "made.ipynb").is_file()
    assert (
        good.record["state"] == "finished"
        and good.record["memory_gb"] > 0.03
        and good.record["seconds"] > 0.5
    )
    assert {"versions", "git_commit", "identity"} <= good.record.keys()
    assert (good.folder / "threads").read_text() == str(max(1, joblib.cpu_count() // 2))
    out, err = capfd.readouterr()
    assert "3 runs: 1 finished, 2 failed" in out and f"too small: {bad.folder / 'log.txt'}" in out
    assert "failed=2" in err

    replicate.preview(runs, tmp_path / "runs")
    out = capfd.readouterr().out
    assert "3 runs: 1 finished, 2 to do" in out and "AssertionError: too small" in out
    assert "~" not in out.rsplit("\n", 2)[0]  # but in the last line
    assert replicate.replicate([bad, good]) == 1
    assert starts(tmp_path) == {"bad": 2, "die": 1, "good": 1}


def test_what_another_plan_finished_is_not_run_again(plan, tmp_path):
    file = plan("notebook: made.ipynb\nseeds: 1\ngrid: {number: 0}")
    file.with_name("other.yml").write_text(file.read_text())
    (run,), (theirs,) = (
        replicate.expand(tmp_path / name, tmp_path / "runs") for name in ("made.yml", "other.yml")
    )
    assert run.folder.name == theirs.folder.name and run.folder != theirs.folder

    def tried(one, state):
        one.folder.mkdir(parents=True, exist_ok=True)
        (one.folder / "run.json").write_text(
            json.dumps({"state": state, "reason": "", "plan": one.folder.parent.name})
        )

    tried(theirs, "failed")
    assert run.record["state"] == ""
    tried(run, "failed")
    assert run.record["plan"] == "made"
    tried(theirs, "finished")
    assert run.record == theirs.record and run.record["plan"] == "other"
    assert replicate.replicate([run]) == 0 and not (run.folder / "log.txt").exists()


def test_two_plans_at_once_do_a_run_once(plan, tmp_path):
    file = plan("notebook: made.ipynb\nseeds: 1\ngrid: {seconds: 3}")
    file.with_name("other.yml").write_text(file.read_text())
    both = [
        replicate.expand(tmp_path / name, tmp_path / "runs") for name in ("made.yml", "other.yml")
    ]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(replicate.replicate, both)) == [0, 0]
    assert len(list(tmp_path.rglob("started"))) == len(list(tmp_path.rglob("run.json"))) == 1


def test_devices_are_shared_evenly(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "all")
    work = "import os\nprint('device', os.environ['CUDA_VISIBLE_DEVICES'])"
    runs = replicate.expand(
        plan("notebook: made.ipynb\nseeds: 4\ngrid: {}", work=work), tmp_path / "runs"
    )
    assert (
        replicate.replicate(runs[:3], jobs=3, devices=["4", "6"])
        == replicate.replicate(runs[3:])
        == 0
    )
    found = [(run.folder / "log.txt").read_text().split("device ")[1].split()[0] for run in runs]
    assert sorted(found[:3]) == ["4", "4", "6"] and found[3] == "all"


def test_a_run_gets_the_device_that_is_free(plan, tmp_path):
    work = (
        "import os, time\ntime.sleep(seconds)\nprint('device', os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    runs = replicate.expand(
        plan("notebook: made.ipynb\nseeds: 1\ngrid: {seconds: [9, 0, 1]}", work=work), tmp_path
    )
    assert replicate.replicate(runs, jobs=2, devices=["4", "6"]) == 0
    slow, *quick = [
        (run.folder / "log.txt").read_text().split("device ")[1].split()[0] for run in runs
    ]
    assert quick == [{"4": "6", "6": "4"}[slow]] * 2


@pytest.mark.parametrize("there", [False, True])
def test_a_worker_that_does_not_share_the_folder_or_its_locks(plan, tmp_path, there):
    (run,) = replicate.expand(
        plan("notebook: made.ipynb\nseeds: 1\ngrid: {number: 1}"), tmp_path / "runs"
    )
    (tmp_path / "lock").write_text("") if there else None
    with pytest.raises(OSError, match="out: expected a folder that all workers share"):
        replicate._run(run, run.record, tmp_path / "lock")
    assert not run.folder.exists()


def test_a_run_whose_record_was_removed_is_run(plan, tmp_path):
    (run,) = replicate.expand(
        plan("notebook: made.ipynb\nseeds: 1\ngrid: {number: 1}"), tmp_path / "runs"
    )
    with replicate.FileLock(tmp_path / "lock"):
        folder, record = replicate._run(
            run, {"state": "failed", "reason": "too small"}, tmp_path / "lock"
        )
    assert folder == run.folder and record == run.record and record["state"] == "finished"


def test_a_run_that_hangs_is_ended(plan, tmp_path):
    (run,) = replicate.expand(
        plan("notebook: made.ipynb\nseeds: 1\nminutes: 0.05\ngrid: {seconds: 900}"), tmp_path
    )
    assert replicate.replicate([run]) == 1
    assert (
        run.record["reason"] == "took longer than its limit of 0.05 minutes"
        and 3 < run.record["seconds"] < 30
    )
    wait(lambda: not at_work(tmp_path), 20)


SLOW = "notebook: made.ipynb\nseeds: 1\ngrid:\n- {word: first}\n- {word: second, seconds: 6}\n"


def test_kill_and_repeat_with_two_runners(plan, runner, tmp_path):
    file = plan(SLOW)
    killed = runner(file, "--jobs", 2)
    wait(lambda: starts(tmp_path) and len(list(tmp_path.rglob("started"))) == 2)
    killed.kill()
    wait(lambda: not at_work(tmp_path), 20)
    assert starts(tmp_path) == {"first": 1}
    runs = replicate.expand(file, tmp_path / "runs")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(replicate.replicate, [runs, runs])) == [0, 0]
    assert starts(tmp_path) == {"first": 1, "second": 2}


def test_ctrl_c(plan, runner, tmp_path):
    process = runner(plan("notebook: made.ipynb\nseeds: 2\ngrid: {seconds: 900}"), "--jobs", 2)
    wait(lambda: len(list(tmp_path.rglob("started"))) == 2)
    assert len(at_work(tmp_path)) >= 4  # a kernel each
    process.send_signal(signal.SIGINT)
    assert (
        process.wait(timeout=60) == 130
        and "Traceback" not in (tmp_path / "printed.txt").read_text()
    )
    wait(lambda: not at_work(tmp_path), 20)
    assert not list(tmp_path.rglob("run.json")) and not list(tmp_path.rglob(".runner-*"))


@pytest.fixture
def cluster(tmp_path):
    """The address of a Dask scheduler with two workers of one thread; each is a process."""
    distributed = pytest.importorskip("distributed")
    file = tmp_path / "scheduler.json"
    commands = [["dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", file]]
    commands += [
        ["dask_worker", "--scheduler-file", file, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    ] * 2
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{name}", *map(str, rest)],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name, *rest in commands
    ]
    address = wait(lambda: file.is_file() and json.loads(file.read_text())["address"])
    with distributed.Client(address) as client:
        client.wait_for_workers(2, timeout=90)
    yield address
    for process in processes:
        process.kill()
        process.wait()


def test_dask_loses_nothing_with_a_worker(plan, cluster, tmp_path, capfd):
    check_that_a_killed_worker_costs_nothing(
        plan, tmp_path, capfd, [1, 2], backend="dask", scheduler=cluster
    )


def test_loky_loses_nothing_with_a_worker(plan, tmp_path, capfd):
    """Where one worker is killed loky ends the others too, and the runs begin again."""
    check_that_a_killed_worker_costs_nothing(plan, tmp_path, capfd, [2, 2], jobs=2)


def check_that_a_killed_worker_costs_nothing(plan, tmp_path, capfd, expected, **options):
    runs = replicate.expand(
        plan("notebook: made.ipynb\nseeds: 1\ngrid: {word: [one, two], seconds: 3}"), tmp_path
    )
    with ThreadPoolExecutor(1) as pool:
        failed = pool.submit(replicate.replicate, runs, **options)
        wait(lambda: len(list(tmp_path.rglob("started"))) == 2)
        psutil.Process(at_work(tmp_path)[0].ppid()).kill()
        assert failed.result(timeout=120) == 0
    assert sorted(starts(tmp_path).values()) == expected
    out = capfd.readouterr().out
    assert out.count(": finished, ") == 2 and "2 runs: 2 finished, 0 failed" in out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nowhere.yml"], "plan: expected a file or one of"),
        (["x", "--backend", "dask"], "need each other"),
        (["x", "--jobs", "0"], "above 0"),
        (
            ["x", "--backend", "dask", "--scheduler", "tcp://127.0.0.1:9", "--jobs", "2"],
            "the workers decide",
        ),
        (
            ["x", "--backend", "dask", "--scheduler", "tcp://127.0.0.1:9", "--device", "0"],
            "the workers decide",
        ),
        (["x", "--scheduler", "tcp://127.0.0.1:9"], "need each other"),
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

    def run(runs, *asked):
        return seen.append((len(runs), *asked)) or 3

    seen, file = [], plan(GOOD)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(replicate, "replicate", run)
    for more in (
        ["--jobs", "3", "--only", "number=2", "seed=0,1", "--device", "0,2"],
        ["--backend", "dask", "--scheduler", "tcp://there"],
    ):
        monkeypatch.setattr(
            sys, "argv", ["lclkit", "replicate", str(file), "--out", str(tmp_path / "runs"), *more]
        )
        assert commands.main() == 1
    assert seen == [(2, 3, "loky", None, ["0", "2"]), (4, 1, "dask", "tcp://there", [])]
    assert "HF_HUB_OFFLINE" not in os.environ
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--dry-run"])
    assert not commands.main() and len(seen) == 2
    assert (
        "4 runs: 0 finished, 4 to do" in capsys.readouterr().out
        and os.environ["HF_HUB_OFFLINE"] == "1"
    )
