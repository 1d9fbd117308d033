"""What is installed, from which file: the lists must agree, and the package must stay thin."""

import re
import sys
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]
LOCKED = dict(
    re.findall(
        r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE
    )
)
CONDA_NAMES = {"torch": "pytorch"}


def test_environment_yml_asks_for_what_pyproject_asks_for():
    lines = re.findall(r"^ +- (.+)$", (ROOT / "environment.yml").read_text(), flags=re.MULTILINE)
    expected = {f"python{PROJECT['requires-python']}", "pip", "pip:", "conda-forge", "-e ."}
    expected |= {
        re.sub(r"^[\w-]+", lambda name: CONDA_NAMES.get(name[0], name[0]), line) for line in WANTED
    }
    assert set(lines) == expected


@pytest.mark.parametrize("wanted", WANTED)
def test_lock_is_exact_and_fulfils_pyproject(wanted):
    pattern = r"([\w-]+)(>=|==)([\d.]+)(,<[\d.]+)?"
    name, operator, bound, _ = re.fullmatch(pattern, wanted).groups()

    def number(version):
        return [int(part) for part in version.split(".")]

    locked = number(LOCKED[name])
    assert locked == number(bound) if operator == "==" else locked >= number(bound)


def test_lock_pins_one_torch_and_none_of_its_cuda_libraries():
    assert LOCKED["torch"] == "2.13.0"
    assert not [
        name
        for name in LOCKED
        if name.startswith("nvidia") or name in ("triton", "sentence-transformers")
    ]


def test_lclkit_stays_thin():
    lines = sum(len(path.read_text().splitlines()) for path in (ROOT / "lclkit").glob("*.py"))
    assert lines <= 3254  # as formatted; never raise it: 2,200 is the aim


def test_files_that_are_no_code_are_installed_too():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = setuptools["package-data"]["lclkit"]
    installed = {file for pattern in patterns for file in (ROOT / "lclkit").glob(pattern)}
    files = {file for file in (ROOT / "lclkit").iterdir() if file.is_file()}
    assert files - installed == set((ROOT / "lclkit").glob("*.py"))


def test_readme_names_commands_that_exist():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^(\w+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"\bmake (\w+)", readme))
    assert {"demo", "test"} <= named <= targets
    assert "PLACEHOLDER" not in readme
