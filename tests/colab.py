"""Does lclkit install on Colab, and leave alone what is there? `python tests/colab.py [LIST]`

Resolves lclkit under Colab's versions, those in colab.txt or in a list that `pip freeze` made there
(pip-freeze.txt of github.com/googlecolab/backend-info is Colab's own). Returns 1 if that is
impossible, or if something is added that the first cell of the notebooks does not install.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent
INSTALLED = {"latex2mathml", "papermill", "ruamel-yaml"}  # by the first cell, without dependencies
LEFT_OUT = {"jedi"}  # by Colab, on purpose
TORCH_PARTS = re.compile("nvidia|cuda|triton")  # Colab has those of its own build of torch


def name(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def main(versions: Path = TESTS / "colab.txt") -> int:
    if not shutil.which("uv"):
        print("This needs uv: pip install uv", file=sys.stderr)
        return 2
    lines = versions.read_text(encoding="utf-8").splitlines()
    # without what came from an address, and without "+cu128", the name of a build
    has = [line.split("+")[0] for line in lines if re.match(r"[\w.-]+[=>]=", line)]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("\n".join(has), encoding="utf-8")
        command = ["uv", "pip", "compile", "--quiet", "--no-config", "--no-annotate", "--no-header"]
        command += ["--python-version", "3.13", "--constraint", str(constraints)]
        command.append(str(TESTS.parent / "pyproject.toml"))
        resolved = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if resolved.returncode:
        print("Colab's versions do not do.", file=sys.stderr)
        return 1
    added = {name(line) for line in resolved.stdout.splitlines()} - {name(line) for line in has}
    added = {package for package in added if not TORCH_PARTS.match(package)} - LEFT_OUT
    print("Colab's versions do. Added to them:", ", ".join(["lclkit", *sorted(added)]))
    return 0 if added <= INSTALLED else 1


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
