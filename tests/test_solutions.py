"""The hidden cases of the exercises, for a class: fresh inputs where an answer is a function.

The check that a student sees knows the answers to a few inputs. The cases have others: an answer
learnt by heart fails, and a right one does not, in whatever form the check accepts it.
"""

import contextlib
import copy
import inspect
import io
import pickle
import symtable

import numpy as np
import pytest
import torch
from grading import same
from test_notebooks import ROOT, code, definitions, exercises, read, tagged

CASES = sorted(ROOT.glob("tests/solutions/*/*.cases.py"))
# No functions of an input, or several answers are right: the check alone judges these.
WITHOUT = {"better_models", "diagnosis", "turns", "counterexample"}
# The checks of these look at gradients as well, and the cases do not.
OF_GRADIENTS = {"my_lcl", "mended_scl"}
WRONG_IN_GRADIENTS_ALONE = {
    "my_lcl.bug_detached",
    "my_lcl.bug_nan_gradient",
    "mended_scl.bug_no_gradient",
    "mended_scl.bug_where_after",
}


class Exercise:
    def __init__(self, path):
        self.folder, self.name = path.parent, path.name.split(".")[0]
        self.notebook = read(ROOT / "notebooks" / f"{self.folder.name}.ipynb")
        self.names = definitions(self.notebook)
        self.solution = self.written(path.with_name(f"{self.name}.py"))
        self.hidden = self.names | {"same": same}
        exec(path.read_text(), self.hidden)

    def written(self, path):
        """The function that a file of tests/solutions has."""
        space = dict(self.names)
        exec(path.read_text(), space)
        return space[self.name]

    def passes_check(self, answer):
        (check,) = tagged(self.notebook, f"check-{self.name}")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(check.source, self.names | {self.name: answer})
        return printed.getvalue().rstrip().endswith(": ok")

    def passes_case(self, answer, case):
        expected = self.solution(*copy.deepcopy(case))  # a function may change what it is given
        with contextlib.suppress(Exception):  # whatever is wrong with an answer
            return self.hidden["same"](expected, answer(*copy.deepcopy(case)))
        return False

    def passes_cases(self, answer):
        return all(self.passes_case(answer, case) for case in self.hidden["cases"])


@pytest.fixture(params=CASES, ids=lambda path: path.name.split(".")[0])
def exercise(request):
    dtype = torch.get_default_dtype()  # notebook 03 changes it
    yield Exercise(request.param)
    torch.set_default_dtype(dtype)


def test_an_exercise_has_cases_or_needs_none():
    having = {path.name.split(".")[0] for path in CASES}
    assert having | WITHOUT == {name for _, name in exercises()}
    assert not having & WITHOUT
    known = [(stem, name) for stem, name in exercises() if name in having]
    assert sorted(known) == [(path.parent.name, path.name.split(".")[0]) for path in CASES]


def test_the_solution_passes(exercise):
    assert exercise.passes_check(exercise.solution) and exercise.passes_cases(exercise.solution)


def by_heart(exercise):
    """Answers what the check asks; and anything else as the first of it."""
    bind, known = inspect.signature(exercise.solution).bind, {}

    def asked(*args, **kwargs):
        return pickle.dumps(bind(*args, **kwargs).args)

    def learn(*args, **kwargs):
        return known.setdefault(asked(*args, **kwargs), exercise.solution(*args, **kwargs))

    def answer(*args, **kwargs):
        return known.get(asked(*args, **kwargs), next(iter(known.values())))

    exercise.passes_check(learn)
    return answer


def test_an_answer_learnt_by_heart_fails(exercise):
    answer = by_heart(exercise)
    assert exercise.passes_check(answer) == (exercise.name not in OF_GRADIENTS)
    assert not exercise.passes_cases(answer)


def test_known_mistakes_fail(exercise):
    bugs = exercise.folder.glob(f"{exercise.name}.bug_*.py")
    passed = {path.stem for path in bugs if exercise.passes_cases(exercise.written(path))}
    assert passed <= WRONG_IN_GRADIENTS_ALONE


def lists(value):
    if isinstance(value, (tuple, list)):
        return [lists(part) for part in value]
    return value.tolist() if hasattr(value, "tolist") else value


def arrays(value):
    if isinstance(value, (tuple, list)) and any(np.ndim(part) for part in value):
        return tuple(np.asarray(part) for part in value)
    return value if isinstance(value, str) else np.asarray(value)


def single_precision(value):
    if isinstance(value, (tuple, list)):
        return tuple(single_precision(part) for part in value)
    if torch.is_tensor(value):
        return value.float() if value.is_floating_point() else value
    is_float = np.issubdtype(np.asarray(value).dtype, np.floating)
    return np.asarray(value, np.float32)[()] if is_float else value


def floats(value):
    """Where whole numbers would do."""
    if isinstance(value, (tuple, list)):
        return [floats(part) for part in value]
    return float(value) if isinstance(value, (int, np.integer)) else value


@pytest.mark.parametrize("form", [lists, arrays, single_precision, floats])
def test_what_the_check_accepts_passes(exercise, form):
    def answer(*args, **kwargs):
        return form(exercise.solution(*args, **kwargs))

    accepted = False
    with contextlib.suppress(AttributeError, TypeError, RuntimeError):  # the check needs a tensor
        accepted = exercise.passes_check(answer)
    assert exercise.passes_cases(answer) or not accepted


def names_set(source):
    table = symtable.symtable(source, "cell", "exec")
    return {name.get_name() for name in table.get_symbols() if name.is_assigned()}


def test_cases_change_nothing_in_their_notebook(exercise):
    """They may run in it. What compares the answers is set anew for each exercise."""
    cases = (exercise.folder / f"{exercise.name}.cases.py").read_text()
    of_notebook = set().union(*[names_set(cell.source) for cell in code(exercise.notebook)])
    assert not names_set(cases) & of_notebook - {"same"}
