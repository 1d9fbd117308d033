"""Run notebooks headlessly with papermill."""

import shutil
import sys
import tempfile
from pathlib import Path

import papermill
from nbconvert import HTMLExporter

from lclkit import data


def run_notebook(notebook: str | Path, folder: str | Path, parameters: dict) -> tuple[Path, Path]:
    """Execute a notebook with parameters; returns the executed notebook and its HTML, both in `folder`.

    Both appear whole or not at all; if a cell fails, the notebook up to there is kept as `*.failed.ipynb`.
    Raises ValueError for a parameter that the notebook does not have (papermill only warns), or for its own folder.
    """
    notebook, folder = Path(notebook), Path(folder)
    known = papermill.inspect_notebook(str(notebook))
    if notebook.parent.resolve() == folder.resolve():
        raise ValueError(f"folder: {folder} holds {notebook.name} itself, which would be overwritten")
    if unknown := sorted(set(parameters) - set(known)):
        raise ValueError(f"{notebook.name} has no parameter {unknown[0]!r}; it has {', '.join(known)}")
    executed, failed = folder / notebook.name, folder / f"{notebook.stem}.failed.ipynb"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as elsewhere:        # so that a killed run leaves nothing in `folder`
        running = Path(elsewhere, notebook.name)
        try:
            papermill.execute_notebook(str(notebook), str(running), parameters, kernel_name="python3",
                                       stdout_file=sys.stdout, extra_arguments=["--log-level=ERROR"])
        except papermill.PapermillExecutionError:
            shutil.copy(running, failed)
            print(f"A cell failed. The notebook up to there: {failed}")
            raise
        with data.whole(executed) as partial:
            shutil.copy(running, partial)
    failed.unlink(missing_ok=True)
    with data.whole(executed.with_suffix(".html")) as partial:
        partial.write_text(HTMLExporter().from_filename(str(executed))[0], encoding="utf-8")
    return executed, executed.with_suffix(".html")
