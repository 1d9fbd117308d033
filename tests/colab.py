"""Does lclkit install on Colab, and leave alone what is there? Needs uv: `python tests/colab.py`.

Resolves lclkit under Colab's versions (colab.txt), and fails if that is impossible, or
if something is added that the first cell of the notebooks does not install.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
LEFT_OUT = {"jedi"}  # by Colab, on purpose; the first cell installs without dependencies
TORCH_PARTS = re.compile("nvidia|cuda|triton")  # Colab has those of its own build of torch


def names(requirements: str) -> set[str]:
    return set(re.findall(r"^([\w-]+)[=>]=", requirements, flags=re.MULTILINE))


def main() -> int:
    if not shutil.which("uv"):
        print("This needs uv: pip install uv", file=sys.stderr)
        return 2
    constraints = TESTS / "colab.txt"
    command = ["uv", "pip", "compile", "--quiet", "--no-config", "--no-annotate", "--no-header"]
    command += ["--python-version", "3.13", "--constraint", constraints]
    command.append(TESTS.parent / "pyproject.toml")
    resolved = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if resolved.returncode:
        print("Colab's versions do not do.", file=sys.stderr)
        return 1
    added = names(resolved.stdout) - names(constraints.read_text(encoding="utf-8"))
    added = {name for name in added if not TORCH_PARTS.match(name)} - LEFT_OUT
    print("Colab's versions do. Added to them:", ", ".join(["lclkit", *sorted(added)]))
    return 0 if added == {"papermill"} else 1


if __name__ == "__main__":
    sys.exit(main())
