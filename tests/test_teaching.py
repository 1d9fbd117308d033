"""TEACHING.md and the licences: what they name is there, and their times add up."""

import hashlib
import itertools
import re
from pathlib import Path

import pytest
import typer
from test_notebooks import PATHS, exercises, read

from lclkit.__main__ import app

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "TEACHING.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = {path.stem: read(path) for path in PATHS}
EXERCISES = {stem: [name for of, name in exercises() if of == stem] for stem in NOTEBOOKS}


def section(title):
    """What stands below the heading that begins so, up to the next of its level or above."""
    level, body = re.search(rf"^(#+) {title}[^\n]*\n(.*)", TEXT, re.M | re.S).groups()
    return re.split(rf"^#{{1,{len(level)}}} ", body, flags=re.M)[0]


def rows(text):
    """The cells of a table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def lessons():
    return {re.search(r"notebooks/(\w+)", row[0])[1]: row for row in rows(section("The lessons"))}


def test_every_lesson_has_the_times_of_the_readme():
    found = {name: [row[1], row[2]] for name, row in lessons().items()}
    table = re.findall(r"\(notebooks/(\w+)\.ipynb\) \|.*\| (\d+ min) \| (\d+ min) \|", README)
    assert found == {name: times for name, *times in table}
    assert list(found) == list(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_lesson_names_all_its_exercises(name):
    numbered = re.findall(r"(\d) `(\w+)`", lessons()[name][4])
    expected = EXERCISES[name]
    assert numbered == [(str(number), of) for number, of in enumerate(expected, start=1)]
    lesson = section(f"{name[:2]} ")
    assert re.findall(r"`(\w+)`: ", lesson.split("**Questions**")[0]) == expected
    assert lesson.count("Good: ") == lesson.count("Weak: ") >= 2


def test_exercises_of_the_plans_exist():
    everywhere = {name for _, name in exercises()}
    named = set(re.findall(r"`([a-z_]+)`", section("Plans"))) - {"demo"}
    assert len(named) >= 8 and named <= everywhere
    graded = re.findall(r"\*(\d\d): ([\d, andto]+)\*", section("Six weeks"))
    count = {stem[:2]: len(names) for stem, names in EXERCISES.items()}
    assert {notebook for notebook, _ in graded} == count.keys()
    for notebook, numbers in graded:
        assert max(map(int, re.findall(r"\d", numbers))) <= count[notebook]


def test_sections_that_are_named_exist():
    named = re.findall(r"\b(0\d), sections? (\d+)(?:(?:, \d+)? (?:and|to) (\d+))?", TEXT)
    assert len(named) > 10
    for number, *of in named:
        (notebook,) = [notebook for name, notebook in NOTEBOOKS.items() if name[:2] == number]
        prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        for one in filter(None, of):
            assert f"\n## {one} · " in f"\n{prose}", (number, one)


def test_the_plans_take_the_time_they_say():
    session = [(int(start), int(minutes)) for start, minutes, _ in rows(section("One session"))]
    clock = 0
    for start, minutes in session:
        assert start == clock
        clock += minutes
    assert clock == 90
    slides = (ROOT / "docs/slides/slides.md").read_text(encoding="utf-8")
    minutes = map(int, re.findall(r"^Note: (\d+) min", slides, re.M))
    assert {start for start, _ in session} <= {0, *itertools.accumulate(minutes)}
    half_day = [int(minutes) for minutes, _ in rows(section("Half a day"))]
    assert half_day[0] == 90 and sum(half_day) == 240
    assert len(rows(section("Six weeks"))) == 6


def test_links_lead_somewhere():
    titles = re.findall(r"^#+ (.+)$", TEXT, re.M)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert anchors >= {link[1:] for link in links if link.startswith("#")}
    contents = TEXT.split("\n## ")[0]
    assert {f"#{title}" for title in re.findall(r"\(#([\w-]+)\)", contents)} <= set(links)
    for title in re.findall(r"^## (.+)$", TEXT, re.M):
        assert f"[{title}](#" in contents
    files = [link for link in links if not re.match("#|https:", link)]
    files += re.findall(r"`((?:lclkit|tests|notebooks|docs)/[\w./]*)`", TEXT)
    assert len(files) > 10
    for file in files:
        assert (ROOT / file).exists(), file


def test_commands_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:`|\n)make ([a-z]+)", TEXT)) <= targets
    commands = typer.main.get_command(app).commands
    named = re.findall(r"(?:`|bin/)lclkit ([a-z]+)((?: --[a-z]+| [\w/.-]+)*)", TEXT)
    assert len(named) > 3
    for command, options in named:
        known = {option for parameter in commands[command].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z]+", options)) <= known, command


def test_a_teacher_finds_the_page_on_the_first_screen():
    assert "](TEACHING.md)" in "\n".join(README.splitlines()[:25])


def test_the_licences_are_whole():
    """The legal code as SPDX has it, WordNet's notice as WordNet has it."""
    texts = {
        "LICENSE-CC-BY-4.0.txt": "d557539df68e771cc1eedcc91d13f70fca930e508d11eedcafa4b15db49e3744",
        "LICENSE-WordNet.txt": "7731175a77952e259390b496fab905e57118b8d19ad3a8383c67eee724ff443f",
    }
    for name, expected in texts.items():
        content = (ROOT / name).read_bytes().replace(b"\r\n", b"\n")
        assert hashlib.sha256(content).hexdigest() == expected, name
    licences = (ROOT / "LICENSES.md").read_text(encoding="utf-8")
    assert {path.name for path in ROOT.glob("LICENSE*")} - {"LICENSES.md"} == set(
        re.findall(r"\((LICENSE[\w.-]*)\)", licences)
    )
    credit = "Figure from lclkit (https://github.com/lclkit/lclkit), the lclkit authors, CC BY 4.0"
    assert credit in licences and credit in TEXT
    assert "](LICENSES.md)" in README
