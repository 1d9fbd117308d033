"""The slides as a folder that opens without the internet: python docs/slides/build.py [FOLDER]."""

import html
import json
import re
import shutil
import sys
import tomllib
from functools import cache
from pathlib import Path

from nbconvert.filters import markdown2html

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@cache
def text_of(where: str) -> str:
    """A file; or, of a notebook named by its number, all cells and what they print."""
    path = next(ROOT.glob(f"notebooks/{where}_*.ipynb"), ROOT / where)
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    parts = []
    for cell in json.loads(text)["cells"]:
        parts.append(cell["source"])
        for output in cell.get("outputs", []):
            parts.append(output.get("text") or output.get("data", {}).get("text/plain", []))
    return "\n\n".join(map("".join, parts))


def found(placeholder: re.Match) -> str:
    """The formula with this tag, or what the group of a regular expression finds."""
    where, what = placeholder.groups()
    if what.startswith(r"\tag{"):
        what = rf"(\$\$[^$]+{re.escape(what)}\s*\$\$)"
    match = re.search(what, text_of(where), re.MULTILINE)
    if match is None:
        raise ValueError(f"slides.md asks for {placeholder[0]}, which is not there.")
    return match[1]


def described(image: re.Match) -> str:
    """A figure, with the description that was saved beside it."""
    about = json.loads(text_of(f"figures/{image[1]}.json"))
    return f'<img src="figures/{image[1]}.svg" alt="{html.escape(about["alt"])}">'


def slide(source: str) -> str:
    body, _, note = source.partition("\nNote:")
    minutes = re.match(r"\s*(\d+) min\.", note)
    if minutes is None:
        raise ValueError(f"A slide lacks its 'Note: (number) min.': {body.strip()[:60]}")
    shown = re.sub(r'<img src="../../figures/(\w+).svg" alt="" />', described, markdown2html(body))
    notes = f'<aside class="notes">{markdown2html(note)}</aside>'
    return f'<section data-timing="{60 * int(minutes[1])}">\n{shown}{notes}\n</section>\n'


def slides(source: str) -> str:
    filled = re.sub(r"\{\{ (\S+): (.+?) \}\}", found, source)
    return "".join(map(slide, re.split(r"^---$", filled, flags=re.MULTILINE)))


def build(out: Path) -> None:
    sys.path.insert(0, str(HERE.parent))
    from npm import fetch

    deck = slides((HERE / "slides.md").read_text(encoding="utf-8"))
    files = [*re.findall(r"figures/\w+\.svg", deck), "LICENSE-WordNet.txt"]
    copies = {ROOT / file: out / file for file in files}
    for package, about in tomllib.loads((HERE / "pinned.toml").read_text()).items():
        folder = fetch(package, about["version"], about["sha256"])
        copies |= {folder / file: out / package / file for file in about["files"]}
    for file, copy in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    page = (HERE / "page.html").read_text(encoding="utf-8")
    (out / "index.html").write_text(page.replace("<!-- slides -->", deck), encoding="utf-8")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if sys.argv[1:] else HERE.parent / "_build" / "html" / "slides"
    try:
        build(target)
    except (OSError, ValueError) as why:
        sys.exit(str(why))
    print(f"{target / 'index.html'}: open it; S shows the notes, ?print-pdf behind it prints.")
