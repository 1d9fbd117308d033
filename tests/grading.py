"""What the hidden tests of a graded exercise do; see `point` in docs/classroom.toml."""

import contextlib
import copy
import io
from pathlib import Path

import nbformat
import numpy as np

ROOT = Path(__file__).parents[1]


class Wrong(ValueError):
    """What is wrong with an answer, for the student's page: in Jupyter without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def grade(notebook: str, name: str, space: dict) -> None:
    """Judge an answer in a student's kernel: by its check, and by cases that the check lacks.

    notebook, name: of the exercise; space: the kernel's. Raises Wrong.
    """
    cells = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4).cells
    tag = f"check-{name}"
    (check,) = [cell.source for cell in cells if tag in cell.metadata.get("tags", [])]
    cases = ROOT / "tests" / "solutions" / notebook / f"{name}.cases.py"
    said = io.StringIO()
    # nbgrader takes a warning for a fault.
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        exec(check, space | {"print": print})  # no print of the student's
        if not said.getvalue().rstrip().endswith(": ok"):
            raise Wrong(said.getvalue().strip())
        if not cases.is_file():  # the answer is no function, or several are right
            return
        known = space | {"same": same}
        exec(cases.with_name(f"{name}.py").read_text("utf-8"), known)
        exec(cases.read_text("utf-8"), known)  # may have a `same` of its own
        for case in known["cases"]:
            # Copies: an answer may change what it is given.
            expected, found = (each[name](*copy.deepcopy(case)) for each in (known, space))
            if not known["same"](expected, found):
                raise Wrong(f"{name}{case}: expected {expected}, found {found}")


def same(expected: object, found: object) -> bool:
    """Whether two answers agree: words and sets exactly, numbers, arrays and tensors nearly."""
    if isinstance(expected, tuple | list):
        return len(expected) == len(found) and all(map(same, expected, found))
    if expected is None or isinstance(expected, str | set):
        return expected == found
    expected, found = (x.detach() if hasattr(x, "detach") else x for x in (expected, found))
    return np.shape(expected) == np.shape(found) and np.allclose(expected, found)
