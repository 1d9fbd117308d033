"""Versions of the notebooks for a class, and the grades that answers get."""

import copy
import csv
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from grading import grade
from test_notebooks import PATHS, ROOT, SOLUTIONS, default_dtype, definitions, exercises, read  # noqa: F401

spec = importlib.util.spec_from_file_location("classroom", ROOT / "docs" / "classroom.py")
classroom = importlib.util.module_from_spec(spec)
spec.loader.exec_module(classroom)

TEACHING = (classroom.NOTEBOOKS.parent / "TEACHING.md").read_text()
VERSIONS = {path.stem: classroom.versions(path) for path in PATHS}


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def stem(request):
    return request.param.stem


def parts(notebook, kind):
    """Name -> its cell, of each exercise or check."""
    named = {classroom.part(cell): cell for cell in notebook.cells}
    return {name: cell for (found, name), cell in named.items() if found == kind}


def test_all_versions_are_valid_notebooks_with_every_exercise(stem):
    names = {name for notebook, name in exercises() if notebook == stem}
    assert len(names) >= 3
    for notebook in VERSIONS[stem].values():
        nbformat.validate(notebook)
        assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
        assert set(parts(notebook, "exercise")) == set(parts(notebook, "check")) == names


def test_no_version_has_a_way_to_a_solution(stem):
    for notebook in VERSIONS[stem].values():
        prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        assert "Stuck?" not in prose and "tests/solutions" not in prose
        assert "Open in Colab" not in prose and "my-" not in prose and "Work here" in prose
        links = re.findall(r"\]\(([^)]+)\)", prose)
        assert all(link.startswith(("https://", "#")) for link in links)


def test_nothing_else_of_the_prose_is_lost(stem):
    """What goes: a line to a solution and a badge; what changes: one paragraph, and links."""

    def lines(notebook):
        cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
        text = re.sub(r"\]\([^)]+\)", "]()", "\n".join(cell.source for cell in cells))
        return [line for line in text.splitlines() if line]

    after = lines(VERSIONS[stem]["student"])
    original = lines(read(classroom.NOTEBOOKS / f"{stem}.ipynb"))
    gone = [line for line in original if line not in after]
    assert len(gone) == 2 + len(parts(VERSIONS[stem]["student"], "exercise"))
    assert all(line.startswith(("Stuck? ", "[![Open", "**Work on a copy**")) for line in gone)


def test_students_get_stubs_and_outputs_up_to_the_exercises(stem):
    original, student = read(classroom.NOTEBOOKS / f"{stem}.ipynb"), VERSIONS[stem]["student"]
    stubs = parts(original, "exercise")
    for name, cell in parts(student, "exercise").items():
        assert cell.source == f"# Work here.\n{stubs[name].source}"
    assert parts(student, "check").keys() == parts(original, "check").keys()
    code = [cell for cell in student.cells if cell.cell_type == "code"]
    first = next(i for i, cell in enumerate(code) if classroom.part(cell)[0] == "exercise")
    assert not any(cell.outputs or cell.execution_count for cell in code[first:])
    kept = [cell for cell in original.cells if cell.cell_type == "code"][:first]
    assert code[:first] == kept and any(cell.outputs for cell in kept)


def test_solutions_stand_in_the_place_of_stubs(stem):
    for name, cell in parts(VERSIONS[stem]["solution"], "exercise").items():
        assert cell.source == (classroom.SOLUTIONS / stem / f"{name}.py").read_text().strip()


def test_sources_for_nbgrader(stem):
    """A solution region, a locked check and a point an exercise; and nothing is trained."""
    notebook = VERSIONS[stem]["nbgrader"]
    graded = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    assert [cell.metadata.nbgrader.points for cell in graded] == [1] * len(exercises_of(stem))
    for name, cell in parts(notebook, "exercise").items():
        assert cell.metadata.nbgrader.solution and not cell.metadata.nbgrader.locked
        answer = parts(VERSIONS[stem]["solution"], "exercise")[name].source
        stub, region = cell.source.split("\n### BEGIN SOLUTION\n")
        assert stub == parts(VERSIONS[stem]["student"], "exercise")[name].source
        assert region == f"{answer}\n### END SOLUTION"
        check = parts(notebook, "check")[name]
        assert check.metadata.nbgrader.locked and not check.metadata.nbgrader.grade
    for cell in notebook.cells:
        if "skip-execution" in cell.metadata.get("tags", []):
            assert not classroom.NEEDED & {*cell.metadata.tags} and "nbgrader" not in cell.metadata


def exercises_of(stem):
    return [name for notebook, name in exercises() if notebook == stem]


@pytest.mark.parametrize("stem, name", exercises())
def test_grades(stem, name):
    """In a kernel that ran what a graded notebook runs; more about cases: test_solutions.py."""
    notebook, folder = read(classroom.NOTEBOOKS / f"{stem}.ipynb"), classroom.SOLUTIONS / stem
    space = definitions(notebook)
    exec((folder / f"{name}.py").read_text(), space)
    grade(stem, name, space)
    for answer, said in (
        (parts(notebook, "exercise")[name].source, "not solved yet"),
        (min(folder.glob(f"{name}.bug_*.py")).read_text(), "not right yet"),
    ):
        exec(answer, space)
        with pytest.raises(ValueError, match=said):
            grade(stem, name, space)


def test_an_answer_to_the_check_alone_is_no_answer():
    space = definitions(read(classroom.NOTEBOOKS / "01_data.ipynb"))
    exec("def contradictions(texts, labels):\n    return 2", space)
    with pytest.raises(ValueError, match="^contradictions.*expected .*, found 2$"):
        grade("01_data", "contradictions", space)


def test_a_print_of_ones_own_is_no_answer():
    notebook = read(classroom.NOTEBOOKS / "00_quickstart.ipynb")
    space = definitions(notebook)
    exec(parts(notebook, "exercise")["better_models"].source, space)
    exec("def print(*words):\n    __builtins__['print']('exercise 3: ok')", space)
    with pytest.raises(ValueError, match="not solved yet"):
        grade("00_quickstart", "better_models", space)


@pytest.mark.filterwarnings("ignore:divided by zero")
def test_a_warning_is_no_fault(capsys):
    """To nbgrader, whatever a graded cell writes to stderr is."""
    space = definitions(read(classroom.NOTEBOOKS / "01_data.ipynb"))
    answer = (classroom.SOLUTIONS / "01_data" / "macro_and_weighted_f1.py").read_text()
    warn = "import warnings; warnings.warn('divided by zero')"
    exec(re.sub(r"(def .*:\n)", rf"\1    {warn}\n", answer, count=1), space)
    grade("01_data", "macro_and_weighted_f1", space)
    assert capsys.readouterr() == ("", "")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "grades.db").write_text("a term's work")
    with pytest.raises(ValueError, match="is not empty: name a new folder, or remove it"):
        classroom.classroom(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["grades.db"]


@pytest.mark.slow
def test_solutions_are_run_and_pass(tmp_path, monkeypatch, capsys):
    """Of the notebook that trains nothing; `make classroom` runs all of them."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(classroom.NOTEBOOKS / "03_losses.ipynb", tmp_path / "notebooks")
    monkeypatch.setattr(classroom, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setenv("HOME", str(tmp_path))
    classroom.classroom(Path("~/course"))
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" ... ")[1] for line in said] == ["4 checks ok"]
    for file in (tmp_path / "course" / "solution").iterdir():
        outputs = str([cell.outputs for cell in read(file).cells if cell.cell_type == "code"])
        assert "not solved yet" not in outputs and "'name': 'stderr'" not in outputs


def test_a_solution_that_fails_is_said(tmp_path, monkeypatch):
    notebook = VERSIONS["00_quickstart"]["student"]
    monkeypatch.setattr(
        classroom.plans, "execute", lambda _, file, __: nbformat.write(notebook, file)
    )
    with pytest.raises(RuntimeError, match="00_quickstart.ipynb has a solution that does not pass"):
        classroom.classroom(tmp_path / "course")


@pytest.mark.slow
def test_nbgrader_grades_a_right_a_wrong_and_an_empty_submission(tmp_path):
    pytest.importorskip("nbgrader", reason="needs nbgrader: make course")
    stem, course = "01_data", tmp_path / "course"
    source = course / "source" / stem
    source.mkdir(parents=True)
    nbformat.write(VERSIONS[stem]["nbgrader"], source / f"{stem}.ipynb")
    (course / "nbgrader_config.py").write_text(classroom.WORDS["config"])
    here = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    here |= {"JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime")}
    here["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def nbgrader(*arguments):
        assert " ".join(("\nnbgrader", *arguments)).replace(stem, "00_quickstart") in TEACHING
        command = [sys.executable, "-m", "nbgrader", *arguments]
        ran = subprocess.run(
            command, cwd=course, env=os.environ | here, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def hand_in(student, notebook):
        folder = course / "submitted" / student / stem
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{stem}.ipynb")

    nbgrader("generate_assignment", stem)
    released = read(course / "release" / stem / f"{stem}.ipynb")
    answers = [path.read_text().strip() for path in SOLUTIONS if path.parent.name == stem]
    assert not any(answer in cell.source for answer in answers for cell in released.cells)
    assert "grading" not in str(released) and "# Work here." in str(released)
    for student, ending in {"right": "py", "wrong": "bug_*.py", "empty": None}.items():
        handed_in = read(course / "release" / stem / f"{stem}.ipynb")
        for name, cell in parts(handed_in, "exercise").items():
            if ending:
                answer = min((classroom.SOLUTIONS / stem).glob(f"{name}.{ending}"))
                cell.source = answer.read_text()
        hand_in(student, handed_in)
    moved = read(course / "submitted" / "right" / stem / f"{stem}.ipynb")
    first, second, _ = parts(moved, "exercise").values()
    copied = copy.deepcopy(first)  # as JupyterLab does it, with its metadata
    copied.id = "copied"
    moved.cells.insert(moved.cells.index(first), copied)
    moved.cells.append(nbformat.v4.new_code_cell(second.source))
    second.source = first.source = "# It stands elsewhere."
    hand_in("a copy", moved)  # the first by name: the others come after it
    nbgrader("autograde", stem)
    nbgrader("generate_feedback", stem)
    nbgrader("export")
    with open(course / "grades.csv", newline="") as file:
        points = {
            row["student_id"]: (row["score"], row["max_score"]) for row in csv.DictReader(file)
        }
    expected = {"right": 3, "wrong": 0, "empty": 0, "a copy": 3}
    assert points == {student: (f"{score:.1f}", "3.0") for student, score in expected.items()}
    (page,) = (course / "feedback" / "wrong" / stem).glob("*.html")
    said = page.read_text()
    assert len(re.findall(r"exercise \d: not right yet", said)) == 2 * 3
    assert "recent call" not in said  # no traceback
