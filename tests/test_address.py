"""The repository's address stands in pyproject.toml; `make address`, this file, carries it on."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = [ROOT / name for name in ("CITATION.cff", "LICENSES.md", "README.md", "TEACHING.md")]
PLACES = sorted([*TEXTS, *ROOT.glob("notebooks/[0-9]*.ipynb")])
# in a link to Colab or Binder, a line for git or pip, the citation file, the credit of a figure
OWNED = re.compile(
    r"(colab\.research\.google\.com/github/|mybinder\.org/v2/gh/"
    r"|(?:git clone [\w -]*|git\+|repository-code: |Figure from lclkit \()https://github\.com/)"
    r"[\w.-]+/[\w-]+"
)


def address() -> str:
    return re.search(
        r'Repository = "https://github\.com/([\w.-]+/[\w-]+)"',
        (ROOT / "pyproject.toml").read_text(),
    )[1]


@pytest.mark.parametrize("place", PLACES, ids=lambda path: path.name)
def test_names_the_address_of_pyproject(place):
    found = {
        match.group().removeprefix(match[1])
        for match in OWNED.finditer(place.read_text(encoding="utf-8"))
    }
    assert found == {address()}, "run: make address"


@pytest.mark.parametrize("place", PLACES, ids=lambda path: path.name)
def test_every_place_would_follow_a_fork(place):
    text = place.read_text(encoding="utf-8")
    assert address() not in OWNED.sub("", text)


if __name__ == "__main__":
    for place in PLACES:
        text = place.read_text(encoding="utf-8")
        place.write_text(OWNED.sub(lambda match: match[1] + address(), text), encoding="utf-8")
    print(f"{address()} now stands in {', '.join(place.name for place in PLACES)}")
