"""What is installed, from which file: the lists must agree, and the package must stay thin."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
WANTED = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]
LOCKS = [(ROOT / f"requirements{part}.lock").read_text() for part in ("-course", "")]
LOCKED = dict(re.findall(r"^([\w.-]+)==([\w.]+)", "".join(LOCKS), flags=re.MULTILINE))
COLAB = dict(
    re.findall(
        r"^([\w-]+)[=>]=([\d.]+)", (ROOT / "tests/colab.txt").read_text(), flags=re.MULTILINE
    )
)
CONDA_NAMES = {"torch": "pytorch", "pyright[nodejs]": "pyright"}


def parsed(requirement):
    """Name, operator and bound of a requirement; a second bound may follow."""
    pattern = r"([\w.-]+)(?:\[\w+\])?(>=|==)([\d.]+)(?:,<[\d.]+)?"
    name, *rest = re.fullmatch(pattern, requirement).groups()
    return name.replace(".", "-"), *rest


def number(version):
    return [int(part) for part in version.split(".")]


def test_environment_yml_asks_for_what_pyproject_asks_for():
    lines = re.findall(r"^ +- (.+)$", (ROOT / "environment.yml").read_text(), flags=re.MULTILINE)
    expected = {f"python{PROJECT['requires-python']}", "pip", "pip:", "conda-forge", "-e ."}
    expected |= {
        re.sub(r"^[\w\[\]-]+", lambda name: CONDA_NAMES.get(name[0], name[0]), line)
        for line in WANTED
        if line not in PROJECT["optional-dependencies"]["course"]
    }
    assert set(lines) == expected


@pytest.mark.parametrize("wanted", WANTED)
def test_lock_is_exact_and_fulfils_pyproject(wanted):
    name, operator, bound = parsed(wanted)
    locked = number(LOCKED[name])
    assert locked == number(bound) if operator == "==" else locked >= number(bound)


def test_lock_names_no_address():
    assert not any("/" in lock or "--" in lock for lock in LOCKS)


def test_course_changes_no_locked_version():
    """What both locks name, they name alike; and learners get no nbgrader."""
    course, own = (dict(line.split(" ;")[0].split("==") for line in x.splitlines()) for x in LOCKS)
    assert all(own.get(name, version) == version for name, version in course.items())
    assert "nbgrader" in course and "nbgrader" not in own


@pytest.mark.parametrize("wanted", PROJECT["dependencies"])
def test_colab_has_what_pyproject_asks_for(wanted):
    """Else the first cell of the notebooks must install it; `make colab` asks the registry."""
    name, _, bound = parsed(wanted)
    if name not in ("latex2mathml", "papermill", "ruamel-yaml"):
        assert number(bound) <= number(COLAB[name])


def test_python_has_a_lower_bound_only():
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert re.fullmatch(r"3\.\d+", lowest)
    assert f"(3, {lowest.removeprefix('3.')})" in (ROOT / "Makefile").read_text()
    assert f"--python-version {lowest} " in (ROOT / "Makefile").read_text()
    assert SETTINGS["tool"]["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"
    assert SETTINGS["tool"]["pyright"]["pythonVersion"] == lowest
    assert f"Python {lowest} or later" in (ROOT / "README.md").read_text()


def test_formatter_of_a_commit_is_the_locked_one():
    (hooks,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert hooks["rev"] == f"v{LOCKED['ruff']}"


def test_script_beside_the_clone_can_import_lclkit(tmp_path):
    """There the clone's own folder is called lclkit too, which an import hook would not survive."""
    (tmp_path / "lclkit").mkdir()
    (tmp_path / "script.py").write_text("import lclkit; print(lclkit.__file__)")
    command = [sys.executable, str(tmp_path / "script.py")]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ran.stdout.strip().endswith("__init__.py"), "an older installation? make env"


def test_lock_pins_one_torch_and_none_of_its_cuda_libraries():
    assert LOCKED["torch"] == "2.13.0"
    assert not [
        name
        for name in LOCKED
        if name.startswith("nvidia") or name in ("triton", "sentence-transformers")
    ]


def test_lclkit_stays_thin():
    lines = sum(len(path.read_text().splitlines()) for path in (ROOT / "lclkit").glob("*.py"))
    assert lines <= 2653  # as formatted; whoever adds must delete


def test_files_that_are_no_code_are_installed_too():
    patterns = SETTINGS["tool"]["setuptools"]["package-data"]["lclkit"]
    installed = {file for pattern in patterns for file in (ROOT / "lclkit").glob(pattern)}
    files = {file for file in (ROOT / "lclkit").iterdir() if file.is_file()}
    assert files - installed == set((ROOT / "lclkit").glob("*.py"))


def test_readme_names_commands_that_exist():
    readme = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^(\w+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", readme))
    assert {"demo", "check", "test"} <= named <= targets
