"""Run a notebook headlessly with papermill, in this process or in one of its own."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from lclkit import files


def run_notebook(
    notebook: str | Path, folder: str | Path, parameters: dict, page: bool = True
) -> Path:
    """Execute a notebook with parameters; returns the executed one, in `folder`.

    It gets its name when it is complete. Until then, and if a cell fails, it is called
    `*.unfinished.ipynb`. page: make an HTML page of it, too. Raises ValueError for a parameter that
    the notebook does not have or that is of another type, and for the notebook's own folder.
    """
    import papermill

    notebook, folder = Path(notebook), Path(folder)
    check(notebook.name, parameters, defaults(notebook))
    if notebook.parent.resolve() == folder.resolve():
        raise ValueError(f"folder: {folder} holds {notebook.name} itself, which it would replace")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"{notebook.stem}.unfinished.ipynb"
    options = {"kernel_name": "python3", "extra_arguments": ["--log-level=ERROR"]}
    options |= {"stdout_file": sys.stdout, "shutdown_kernel": "immediate"}
    try:
        papermill.execute_notebook(str(notebook), str(unfinished), parameters, **options)
    except papermill.PapermillExecutionError:
        print(f"A cell failed. The notebook up to there: {unfinished}")
        raise
    executed = unfinished.replace(folder / notebook.name)
    if page:
        from nbconvert import HTMLExporter

        with files.whole(executed.with_suffix(".html")) as partial:
            partial.write_text(HTMLExporter().from_filename(str(executed))[0], encoding="utf-8")
    return executed


def defaults(notebook: Path) -> dict:
    """The parameters of a notebook and the values that stand there."""
    import papermill

    parameters = papermill.inspect_notebook(str(notebook))
    return {name: ast.literal_eval(about["default"]) for name, about in parameters.items()}


def check(title: str, given: dict, usual: dict) -> dict:
    """`given`, over `usual`. Raises ValueError for a name that is not usual, or another type."""
    for name, value in given.items():
        if name not in usual:
            raise ValueError(f"{title} has no parameter {name!r}; it has {', '.join(usual)}")
        expected = type(usual[name])
        whole_number = expected is float and type(value) is int
        if type(value) is not expected and not whole_number:
            raise ValueError(f"{title}: {name}: expected {expected.__name__}, found {value!r}")
    return usual | given


def run_apart(
    notebook: Path, folder: Path, parameters: dict, minutes: float, environment: Mapping[str, str]
) -> dict:
    """`run_notebook` in a process of its own, for a limited time; how that went.

    The process ends if this one does, however that happens. What it prints goes to log.txt.
    Returns "state" ("finished" or "failed"), "reason", "log" (the last lines, if it failed),
    "seconds" and "memory_gb" (the peak of the kernel; None if it is not known).
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.txt"
    memory = folder / "memory_gb"
    memory.unlink(missing_ok=True)
    command = [sys.executable, "-u", "-m", "lclkit.notebook"]
    command.append(json.dumps([str(notebook), str(folder), parameters]))
    streams = {"stdin": subprocess.PIPE, "stderr": subprocess.STDOUT}
    reason = ""
    start = time.monotonic()
    with (
        open(log, "wb") as stdout,
        subprocess.Popen(command, env=environment, stdout=stdout, **streams) as process,
    ):
        try:
            process.wait(60 * minutes)
        except subprocess.TimeoutExpired:
            reason = f"took longer than its limit of {minutes:g} minutes"
        lines = _last_lines(log)  # before its stdin is closed, here, which ends it
    if process.returncode < 0 and not reason:
        reason = f"killed by signal {-process.returncode}"
    elif process.returncode > 0 and not reason:
        reason = lines[-1]
    return {
        "state": "failed" if reason else "finished",
        "reason": reason,
        "log": lines if reason else [],
        "seconds": round(time.monotonic() - start, 1),
        "memory_gb": float(memory.read_text()) if memory.is_file() else None,
    }


def _last_lines(log: Path) -> list[str]:
    """The end of a log, without colours; what a progress bar has overwritten is a line too."""
    text = re.sub(r"\x1b\[[\d;]*m", "", log.read_text(encoding="utf-8", errors="replace"))
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    return lines[-30:] or ["no output"]


def _end_with_caller() -> None:
    os.read(sys.stdin.fileno(), 1)  # until it is closed: by the caller, or because that has died
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
    os._exit(1)  # where papermill hangs too; the kernel looks after its parent, and ends itself


def _note_memory(file: Path) -> None:
    """The peak of the largest child, the kernel, in GB. Windows does not tell."""
    if sys.platform != "win32":
        import resource

        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        unit = 1 if sys.platform == "darwin" else 1024  # bytes
        file.write_text(f"{peak * unit / 1e9:.2f}")


if __name__ == "__main__":  # the process that `run_apart` starts
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # papermill ends its kernel
    threading.Thread(target=_end_with_caller, daemon=True).start()
    notebook, folder, parameters = json.loads(sys.argv[1])
    try:
        run_notebook(notebook, folder, parameters, page=False)
    finally:
        _note_memory(Path(folder, "memory_gb"))
