"""The notebooks for a class, in three versions: python docs/classroom.py --to DIR."""

import argparse
import contextlib
import re
import sys
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from papermill import PapermillExecutionError

from lclkit import files, plans

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
SOLUTIONS = ROOT / "tests" / "solutions"
WORDS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
NEEDED = {"imports", "definition"}  # tags of the cells that exercises and checks build on


def part(cell: NotebookNode) -> tuple[str, str]:
    """("exercise", its name) of a stub, ("check", its name) of a check, else ("", "")."""
    found = re.search(r"(?:^| )(exercise|check)-(\w+)", " ".join(cell.metadata.get("tags", [])))
    return (found[1], found[2]) if found else ("", "")


def versions(path: Path) -> dict[str, NotebookNode]:
    """A notebook for a class: "student", "solution", and "nbgrader", what nbgrader releases from.

    None has ways to the solutions, or outputs from the exercises on. Where answers are graded, only
    the cells they need are run: nothing is trained.
    """
    made = {name: nbformat.read(path, as_version=4) for name in ("student", "solution", "nbgrader")}
    points, begun = [], False
    for student, solution, source in zip(*(made[name].cells for name in made), strict=True):
        kind, name = part(student)
        begun = begun or kind == "exercise"
        for cell in (student, solution, source):
            if cell.cell_type == "markdown":
                cell.source = _without_solutions(cell.source)
            elif begun:
                cell.outputs, cell.execution_count = [], None
        if kind == "exercise":
            solution.source = (SOLUTIONS / path.stem / f"{name}.py").read_text("utf-8").strip()
            student.source = f"{WORDS['stub']}\n{student.source}"
            source.source = WORDS["answer"].format(stub=student.source, solution=solution.source)
            source.metadata.nbgrader = _nbgrader(name, solution=True)
        elif kind == "check":
            source.metadata.nbgrader = _nbgrader(f"check-{name}", locked=True)
            point = nbformat.v4.new_code_cell(WORDS["point"].format(notebook=path.stem, name=name))
            point.metadata.nbgrader = _nbgrader(f"point-{name}", locked=True, grade=True, points=1)
            points.append(point)
        elif source.cell_type == "code" and not NEEDED & {*source.metadata.get("tags", [])}:
            source.metadata.tags = [*source.metadata.get("tags", []), "skip-execution"]
    made["nbgrader"].cells += points
    for notebook in made.values():
        notebook.cells = [cell for cell in notebook.cells if cell.source]
    return made


def _without_solutions(text: str) -> str:
    """Prose without ways to a solution or to the public copy; its links are to the repository."""
    address = metadata("lclkit")["Project-URL"].split()[-1] + "/blob/main"
    text = re.sub(r"(?m)^(Stuck\? |\[!\[Open in Colab).*\n*", "", text)
    text = re.sub(r"\*\*Work on a copy\*\*.*? as it was\.", WORDS["copy"], text)
    text = re.sub(r"\]\((?=(?:plans|results)/)", f"]({address}/notebooks/", text)
    return text.replace("](../", f"]({address}/").strip()


def _nbgrader(identity: str, **about: bool | int) -> dict:
    kinds = dict.fromkeys(("grade", "locked", "solution"), False)
    return {"grade_id": identity, "schema_version": 3} | kinds | about


def classroom(to: Path) -> None:
    """Write all versions of all notebooks to a new folder; solutions are run in profile ci.

    ValueError where the folder is not empty, RuntimeError where a solution fails.
    """
    to = files.writable(to)
    if any(to.iterdir()):
        raise ValueError(f"{to} is not empty: name a new folder, or remove it")
    made = {path.stem: versions(path) for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))}
    for stem, notebooks in made.items():
        for name, folder in {"student": "student", "nbgrader": f"nbgrader/source/{stem}"}.items():
            (to / folder).mkdir(parents=True, exist_ok=True)
            nbformat.write(notebooks[name], to / folder / f"{stem}.ipynb")
    (to / "nbgrader" / "nbgrader_config.py").write_text(WORDS["config"])
    (to / "solution").mkdir()
    parameters = {"profile": "ci", "out": str(to / "runs")}
    for stem, notebooks in made.items():
        file = to / "solution" / f"{stem}.ipynb"
        print(f"solving {file}", end=" ... ", flush=True)
        with contextlib.redirect_stdout(None), contextlib.suppress(PapermillExecutionError):
            plans.execute(notebooks["solution"], file, parameters)
        cells = nbformat.read(file, as_version=4).cells
        said = [str(cell.outputs) for cell in cells if part(cell)[0] == "check"]
        if not all(": ok" in words for words in said):
            raise RuntimeError(f"{file} has a solution that does not pass its check: open it")
        print(f"{len(said)} checks ok", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the notebooks for a class.")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
    target = parser.parse_args().to
    try:
        classroom(target)
    except (OSError, ValueError, RuntimeError) as why:
        sys.exit(str(why))
    except KeyboardInterrupt:
        sys.exit(f"Stopped. {target} is not complete: remove it")
    print(f"{target} has student, solution and nbgrader: see TEACHING.md")
