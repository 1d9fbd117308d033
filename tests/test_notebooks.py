"""Every notebook: its form, and its exercises unsolved, solved and wrongly solved.

nbval runs the notebooks.
"""

import ast
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tokenize
import venv
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
PATHS = sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))
SOLUTIONS = sorted(
    path for path in ROOT.glob("tests/solutions/*/*.py") if not path.name.endswith(".cases.py")
)


@pytest.fixture(autouse=True)
def default_dtype():
    """Notebook 03 changes it."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(notebook, tag):
    return [cell for cell in code(notebook) if tag in cell.metadata.get("tags", [])]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request):
    return read(request.param)


def test_there_are_notebooks():
    assert PATHS


def test_is_valid_and_has_a_portable_kernel(notebook):
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata, (
        "widget metadata keeps GitHub from showing the notebook"
    )


def test_has_one_parameters_cell_of_literals(notebook):
    (cell,) = tagged(notebook, "parameters")
    for line in cell.source.splitlines():
        name, value = line.split("=", 1)  # a second "=" would hide the parameter from papermill
        assert "=" not in value and name.strip().isidentifier() and "  # " in value
        ast.literal_eval(value.split("  # ")[0].strip())


def test_is_committed_as_it_ran(notebook):
    ran = [cell for cell in code(notebook) if cell.execution_count is not None]
    assert [cell.execution_count for cell in ran] == list(range(1, len(code(notebook)) + 1))
    assert any(cell.outputs for cell in ran)
    for cell in ran:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", f"a warning is committed: {output.text[:200]}"


def test_is_committed_with_all_data_sets_at_hand(notebook):
    assert "is not here" not in str([cell.outputs for cell in code(notebook)]), (
        "set LCLKIT_DATA and run make notebooks"
    )


def test_names_no_path_of_a_machine(notebook):
    text = nbformat.writes(notebook)
    assert not re.search(
        r"""(?<![\w.:/])(/(home|root|tmp|usr|work|content|Users)/|[A-Z]:\\\\)""", text
    )


def statements(cell):
    """Its logical lines: as many however they are wrapped."""
    tokens = tokenize.generate_tokens(io.StringIO(cell.source).readline)
    return sum(token.type == tokenize.NEWLINE for token in tokens)


def test_cells_are_short(notebook):
    lengths = [statements(cell) for cell in code(notebook)]
    assert max(lengths) <= 30
    assert np.percentile(lengths, 90) <= 20
    assert max(len(cell.source.splitlines()) for cell in code(notebook)) <= 60


def test_outputs_are_small(notebook):
    assert len(nbformat.writes(notebook)) < 2.5e6  # pictures are sharp on any screen


def test_text_comes_before_code_of_each_section(notebook):
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    words = sum(len(text.split()) for text in prose)
    lesson = code(notebook)[1:]  # the first is Colab's
    assert words >= 6 * sum(statements(cell) for cell in lesson)


def test_first_cell_is_the_same_everywhere():
    assert len({code(read(path))[0].source for path in PATHS}) == 1


def in_folder(folder, *command, **more):
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, **more)


@pytest.mark.slow
def test_first_cell_works_on_colab(tmp_path):
    """Runs it twice, in an environment that has all but lclkit, where it may fetch nothing."""
    kit, content = tmp_path / "kit", tmp_path / "content"
    content.mkdir()
    for name in ("lclkit", "notebooks/plans", "notebooks/results"):
        shutil.copytree(ROOT / name, kit / name)
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, kit)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    in_folder(kit, *git, "init", "-q")
    in_folder(kit, *git, "add", ".")
    in_folder(kit, *git, "commit", "-q", "-m", "The kit")

    venv.create(tmp_path / "venv", with_pip=False)
    paths = {"base": str(tmp_path / "venv"), "platbase": str(tmp_path / "venv")}
    python = Path(sysconfig.get_path("scripts", "venv", paths), Path(sys.executable).name)
    others = Path(sysconfig.get_path("purelib", "venv", paths), "others.pth")
    others.write_text(sysconfig.get_path("purelib"))  # without its own .pth files, so no lclkit

    cell = code(read(PATHS[0]))[0].source
    assert "/content" in cell and "https://github.com" in cell
    cell = cell.replace("/content", content.as_posix())
    cell = re.sub(r"https://github\.com/[\w.-]+/[\w-]+", kit.as_uri(), cell)
    script = f"""
import pathlib, sys, types
cell = {cell!r}
exec(cell)
assert not any(pathlib.Path({str(content)!r}).iterdir()), "this is not Colab"
sys.modules["google.colab"] = types.ModuleType("google.colab")
exec(cell)
exec(cell)
import lclkit
print(pathlib.Path(lclkit.__file__).parent, pathlib.Path("plans").resolve().parent)
"""
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # "0": without isolation
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = in_folder(tmp_path, python, "-c", script, env=environment | offline)
    assert ran.stdout.split()[-2:] == [f"{content}/lclkit/lclkit", f"{content}/lclkit/notebooks"]
    later = "import lclkit.paper; print(lclkit.paper.__file__)"
    assert str(content) in in_folder(tmp_path, python, "-c", later, env=environment).stdout


# What `paper.profile` returns checked; of loss and seed `training.Config` is the judge.
CHECKED = "dataset recipe encoder classes seeds changes lesson out".split()


def reading(notebook):
    (cell,) = [cell for cell in code(notebook) if "paper.profile(" in cell.source]
    return cell


def test_parameters_are_used_as_they_were_read(notebook):
    """As they were typed they are in one cell only, which gives them to `paper.profile`."""
    (parameters,) = tagged(notebook, "parameters")
    typed = {line.split(" = ")[0] for line in parameters.source.splitlines()} & set(CHECKED)
    given = reading(notebook).source
    assert all(re.search(rf"\b{name}\b", given) for name in typed)
    used, set_anew = set(), set()
    for cell in code(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.arg):
                set_anew.add(node.arg)
            if not isinstance(node, ast.Name) or cell is parameters:
                continue
            if isinstance(node.ctx, ast.Store):
                set_anew.add(node.id)
            elif cell.source != given:
                used.add(node.id)
    assert not typed & (used - set_anew)


WRONG = [
    ("out", None, "out: expected a valid string; found None"),
    ("seeds", -1, "seeds: expected greater than or equal to 0; found '-1'"),
    ("dataset", None, "dataset: expected a valid string; found None"),
    ("classes", 17, "classes: expected '', '16', .*; found '17'"),
    ("lesson", "maybe", "lesson: expected a valid boolean, .*; found 'maybe'"),
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_wrong_parameter_is_refused_at_once(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = read(path)
    (parameters,) = tagged(notebook, "parameters")
    space = {}
    for cell in (parameters, *tagged(notebook, "imports")):
        exec(cell.source, space)
    wrong = [case for case in WRONG if case[0] in space and f"{case[0]} = " in parameters.source]
    assert wrong
    for name, typed, message in wrong:
        with pytest.raises(ValueError, match=f"^{message}$"):
            exec(reading(notebook).source, space | {name: typed})
    assert not any(tmp_path.iterdir())


def exercises():
    return [
        (path.stem, tag.removeprefix("exercise-"))
        for path in PATHS
        for cell in code(read(path))
        for tag in cell.metadata.get("tags", [])
        if tag.startswith("exercise-")
    ]


def definitions(notebook):
    """What the cells tagged `imports` and `definition` define."""
    space = {}
    for cell in tagged(notebook, "imports") + tagged(notebook, "definition"):
        exec(cell.source, space)
    return space


def checked(stem, name, answer=None):
    """What the check of an exercise prints, for its stub or for another answer."""
    notebook = read(ROOT / "notebooks" / f"{stem}.ipynb")
    (stub,), (check,) = tagged(notebook, f"exercise-{name}"), tagged(notebook, f"check-{name}")
    space, printed = definitions(notebook), io.StringIO()
    exec(answer or stub.source, space)
    with contextlib.redirect_stdout(printed):
        exec(check.source, space)
    return printed.getvalue()


@pytest.mark.parametrize("stem, name", exercises())
def test_stub_says_that_it_is_unsolved(stem, name):
    assert "not solved yet" in checked(stem, name)
    assert list(ROOT.glob(f"tests/solutions/{stem}/{name}.py")), "an exercise needs a solution"
    assert len(list(ROOT.glob(f"tests/solutions/{stem}/{name}.bug_*.py"))) >= 2, "and bugs to catch"


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.name.removesuffix(".py"))
def test_check_passes_solutions_and_catches_bugs(path):
    printed = checked(path.parent.name, path.name.split(".")[0], path.read_text())
    assert ("not right yet" if ".bug_" in path.name else "ok") in printed
    assert (".bug_" in path.name) != printed.rstrip().endswith("ok")


def test_every_picture_has_words_and_is_sharp(notebook):
    for cell in code(notebook):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                image = output.metadata.get("image/png", {})
                assert len(image.get("alt", "").split()) >= 8, cell.source
                assert image.get("width"), "shown at half its pixels"


def test_checks_are_folded_and_solutions_have_a_path(notebook, request):
    """A check knows the answer; whoever is stuck finds one."""
    stem = request.node.callspec.id
    for position, cell in enumerate(notebook.cells):
        for tag in cell.metadata.get("tags", []):
            if tag.startswith("check-"):
                assert cell.metadata.jupyter.source_hidden and cell.metadata.cellView == "form"
                assert cell.source.startswith("# @title The check of exercise ")
                name = tag.removeprefix("check-")
                path = f"tests/solutions/{stem}/{name}.py"
                after = notebook.cells[position + 1]
                assert after.cell_type == "markdown" and f"](../{path})" in after.source


@pytest.mark.parametrize("stem, name", exercises())
def test_a_wrong_answer_is_told_from_the_others(stem, name):
    """Each known mistake has a hint of its own."""
    bugs = ROOT.glob(f"tests/solutions/{stem}/{name}.bug_*.py")
    said = [checked(stem, name, path.read_text()) for path in bugs]
    assert len(said) == len(set(said))


def reading_minutes(notebook):
    """At 150 words and 30 lines of open code a minute, and half a minute a picture; in fives."""
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    opened = [
        cell
        for cell in code(notebook)[1:]
        if not cell.metadata.get("jupyter", {}).get("source_hidden")
    ]
    lines = sum(len(cell.source.splitlines()) for cell in opened)
    pictures = str([cell.outputs for cell in opened]).count("'image/png': '")
    return 5 * round((words / 150 + lines / 30 + pictures / 2) / 5)


def test_times_are_those_of_the_readme(notebook, request):
    stem = request.node.callspec.id
    said = re.search(
        r"\*\*Time\*\* about (\d+) minutes to read, (a|\d+) minutes? to run",
        notebook.cells[0].source,
    )
    reading, running = said[1], said[2].replace("a", "1")
    assert int(reading) == reading_minutes(notebook)
    readme = (ROOT / "README.md").read_text()
    assert re.search(
        rf"\({re.escape(f'notebooks/{stem}.ipynb')}\).*\| {reading} min \| {running} min \|", readme
    )
    assert f"`my-{stem}.ipynb`" in notebook.cells[0].source


def test_readme_shows_what_the_demo_prints():
    """The block that ends with the notebook's place: its lines are printed by notebook 00."""
    readme = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"```\n([^`]*?)\nruns and figures", readme)
    printed = "".join(
        output.text
        for cell in code(read(PATHS[0]))
        for output in cell.outputs
        if output.output_type == "stream"
    )
    lines = printed.splitlines()
    assert all(line.rstrip() in map(str.rstrip, lines) for line in block.splitlines())
