"""The slides: minutes, figures, formulas, numbers; and, in a browser, that nothing is cut off."""

import importlib.util
import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "docs" / "slides" / "slides.md"
SMALLEST = 15  # pixels of 720, for a letter in a figure

spec = importlib.util.spec_from_file_location("slides", SOURCE.with_name("build.py"))
slides = importlib.util.module_from_spec(spec)
spec.loader.exec_module(slides)


@pytest.fixture(scope="module")
def sections() -> list[str]:
    """The HTML of each slide."""
    return slides.slides(SOURCE.read_text(encoding="utf-8")).split("</section>\n")[:-1]


def minutes(sections: list[str]) -> float:
    return sum(int(re.search(r'data-timing="(\d+)"', section)[1]) for section in sections) / 60


def test_the_session_is_ninety_minutes_a_third_of_them_hands_on(sections):
    assert 18 <= len(sections) <= 24
    assert minutes(sections) == 90
    hands_on = [section for section in sections[1:] if "<h1" in section]
    assert 25 <= minutes(hands_on) <= 30


def test_every_slide_has_notes_and_few_words(sections):
    no_words = re.compile(r"<(pre|table)>.*</\1>|\$\$.*?\$\$|<[^>]+>|&#182;", re.DOTALL)
    for section in sections[1:-1]:  # these have the citation and the licence
        shown, notes = section.split('<aside class="notes">')
        assert len(notes.split()) > 20, shown
        assert len(re.findall(r"\w\w+", no_words.sub(" ", shown))) <= 45, shown


def test_figures_are_there_and_described(sections):
    shown = re.findall(r'<img src="(.+?)" alt="(.+?)">', "".join(sections))
    assert len(shown) == "".join(sections).count("<img") >= 8
    for figure, description in shown:
        assert (ROOT / figure).is_file()
        assert len(description.split()) > 10, figure


def test_formulas_and_numbers_are_taken_from_where_they_were_made(sections):
    """Only what is no result may be typed: the licence's version."""
    typed = re.sub(r"\{\{ .+? \}\}", "", SOURCE.read_text(encoding="utf-8"))
    assert re.findall(r"\d+[.,]\d+|\d ?%", typed.replace("95 %", "")) == ["4.0", "4.0"]
    assert "$$" not in typed
    assert "{{" not in "".join(sections)


def test_numbers_are_those_of_the_figures(sections):
    deck = "".join(sections)
    means = pd.read_csv(ROOT / "figures/00_accuracy.csv", index_col="loss")["mean"]
    for loss in ("ce", "scl"):
        assert f"LCL - {loss.upper()} {means.lcl - means[loss]:+.2f} points" in deck
    push = pd.read_csv(ROOT / "figures/00_idea.csv", index_col=0).loc["a food"]
    assert "{:.0%} of SCL's push, and {:.0%} of LCL's".format(*push) in deck
    most = pd.read_csv(ROOT / "figures/03_vanishing.csv").filter(like="devastated").max()
    assert f"{most['devastated, printed']:.2f} times</strong> SCL's push" in deck
    assert f"{most['devastated, released']:.2f} times</strong> in the released one" in deck


def test_the_answers_are_left_to_the_checks(sections):
    answers = r"turns (left|right)|\+1|F and G|E and F|away from its own positive"
    assert not re.search(answers, "".join(sections).replace("+1.", ""))


@pytest.mark.parametrize(
    "source, named",
    [
        (r"{{ 03: \tag{99} }}", r"\{\{ 03: \\tag\{99\} \}\}"),
        ("{{ RESULTS.md: (no such words) }}", "no such words"),
        ("{{ 99: (any) }}", "99"),
        ("![](../../figures/00_nothing.svg)\nNote: 1 min.", "00_nothing"),
        ("## Without minutes\n\nNote: say this", "Without minutes"),
    ],
)
def test_what_is_missing_is_named(source, named):
    with pytest.raises((ValueError, OSError), match=named):
        slides.slides(source)


@pytest.fixture(scope="module")
def deck(tmp_path_factory) -> Path:
    """The built slides; without the npm registry, at the first build, tests are skipped."""
    folder = tmp_path_factory.mktemp("slides")
    try:
        slides.build(folder)
    except ConnectionError as why:
        pytest.skip(str(why))
    return folder


def test_files_that_the_built_slides_name_are_with_them(deck):
    page = (deck / "index.html").read_text(encoding="utf-8")
    named = set(re.findall(r'(?:href|src)="([\w./-]+)"', page))
    assert "LICENSE-WordNet.txt" in named
    for file in named:
        assert (deck / file).is_file(), file


@pytest.fixture
def opened(chromium, deck):
    """Opens the slides as a double click does; neither an error nor a foreign request may come."""
    context = chromium.new_context(viewport={"width": 1280, "height": 720})
    complaints = []
    context.on("console", lambda message: complaints.append(message.text))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("requestfailed", lambda request: complaints.append(request.url))
    context.on(
        "request",
        lambda request: (
            request.url.startswith((deck.as_uri(), "data:")) or complaints.append(request.url)
        ),
    )

    def open_at(address=""):
        page = context.new_page()
        page.goto(f"{(deck / 'index.html').as_uri()}{address}")
        page.wait_for_function("window.Reveal && Reveal.isReady()")
        return page

    yield open_at
    context.close()
    assert complaints == []


MEASURE = """() => {
    const slide = Reveal.getCurrentSlide(), frame = slide.getBoundingClientRect();
    const parts = [...slide.querySelectorAll(":scope > :not(aside), img, td, mjx-container, li")];
    return {
        text: slide.innerText.trim(),
        overflow: [slide.scrollHeight - slide.clientHeight, slide.scrollWidth - slide.clientWidth],
        outside: parts.filter(part => {
            const box = part.getBoundingClientRect();
            return box.bottom > frame.bottom || box.right > frame.right || box.top < frame.top;
        }).map(part => part.outerHTML),
        figures: [...slide.querySelectorAll("img")].map(image => ({
            file: image.getAttribute("src"), loaded: image.naturalWidth > 0,
            scale: Math.min(image.width / image.naturalWidth, image.height / image.naturalHeight),
        })),
    };
}"""


def smallest_letter(figure: Path) -> float:
    """Its size in points: matplotlib draws letters as outlines, 100 units high."""
    return 100 * min(map(float, re.findall(r"scale\((0\.\d+) -", figure.read_text())))


@pytest.mark.browser
@pytest.mark.slow
def test_no_slide_is_empty_or_cut_off(opened, deck, sections):
    page = opened()
    for number in range(1, len(sections) + 1):
        assert page.evaluate("Reveal.getSlidePastCount()") + 1 == number
        page.wait_for_function(
            "[...Reveal.getCurrentSlide().querySelectorAll('img')].every(i => i.complete)"
        )
        found = page.evaluate(MEASURE)
        assert len(found["text"]) > 10
        assert found["overflow"] == [0, 0], found["text"]
        assert found["outside"] == []
        for figure in found["figures"]:
            assert figure["loaded"], figure
            pixels = 4 / 3 * smallest_letter(deck / figure["file"]) * figure["scale"]
            assert pixels > SMALLEST, figure
        page.keyboard.press("Alt+ArrowRight")  # past what the next key would show
    formulas = "".join(re.sub("<aside.*?</aside>", "", s, flags=re.S) for s in sections).count("$$")
    assert page.locator("mjx-container[display=true] svg path").count() > 100
    assert page.locator("mjx-container[display=true]").count() == formulas / 2 > 8
    assert page.locator("[data-mml-node=merror]").count() == 0


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("words, hidden", [("one number", "0.693"), ("one line", "def lcl_loss")])
def test_what_is_asked_is_shown_by_the_next_key(opened, sections, words, hidden):
    number = next(n for n, section in enumerate(sections) if words in section.split("</h2>")[0])
    page = opened(f"#/{number}")
    part = page.locator(".present .fragment", has_text=hidden).first
    assert part.is_hidden()
    page.keyboard.press("ArrowRight")
    part.wait_for(state="visible")


@pytest.mark.browser
@pytest.mark.slow
def test_prints_a_page_a_slide(opened, sections):
    page = opened("?print-pdf")
    page.wait_for_selector(f".pdf-page >> nth={len(sections) - 1}")
    assert page.locator(".fragment").count() == page.locator(".fragment.visible").count() > 0
    printed = page.pdf(prefer_css_page_size=True, print_background=True)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == len(sections)


@pytest.mark.browser
@pytest.mark.slow
def test_the_speaker_sees_notes_and_time(opened):
    page = opened("#/3")
    with page.expect_popup() as popup:
        page.keyboard.press("s")
    notes = popup.value.locator(".speaker-controls-notes")
    popup.value.wait_for_function("document.body.innerText.includes('min.')")
    assert "4 min." in notes.inner_text()
    assert popup.value.locator(".pacing-title").is_visible()
