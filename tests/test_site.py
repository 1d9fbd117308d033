"""The site as `make site` builds it: nothing missing, nothing from elsewhere, read in a browser."""

import ast
import functools
import html
import json
import re
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("myst_nb")
    pytest.importorskip("sphinx_book_theme")
    folder = tmp_path_factory.mktemp("site")
    options = ["-q", "-W", "--keep-going", "-d", str(folder / "doctrees")]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "-c", "docs", ".", str(folder / "html")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    said = built.stdout + built.stderr
    if "ConnectionError" in said:
        pytest.skip("MathJax could not be fetched from the npm registry")
    assert built.returncode == 0, said
    assert str(folder / "html" / "index.html") in built.stdout
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site) -> dict[str, str]:
    found = [*site.glob("*.html"), *site.glob("docs/*.html"), *site.glob("notebooks/*.html")]
    return {
        page.relative_to(site).as_posix(): page.read_text(encoding="utf-8")
        for page in sorted(found)
    }


@pytest.fixture(scope="module")
def address(site):
    """Where a server of this machine shows the site."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def page_of(number: str) -> str:
    return next(f"notebooks/{path.stem}.html" for path in NOTEBOOKS if path.name[:2] == number)


def title_of(notebook: Path) -> str:
    source = "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"])
    return source.split("\n")[0].removeprefix("# ")


def test_the_first_page_leads_to_everything(pages):
    assert "url=docs/index.html" in pages["index.html"]
    contents = pages["docs/index.html"]
    contents = contents[contents.index('<nav class="bd-links') :]
    links = re.findall(r'<a class="reference internal" href="([^"#]+)">\s*(.+?)\s*</a>', contents)
    titles = [html.unescape(title) for link, title in links if "notebooks/" in link]
    assert titles[: len(NOTEBOOKS)] == [title_of(notebook) for notebook in NOTEBOOKS]
    for name in ("README", "RESULTS", "TEACHING", "CONTRIBUTING", "CHANGELOG", "LICENSES"):
        assert f"../{name}.html" in dict(links)
    assert "reference.html" in dict(links)
    assert 'href="../slides/index.html"' in pages["docs/index.html"]


def test_each_picture_has_words(pages):
    pictures = [
        (page, re.search(r'\salt="([^"]*)"', picture))
        for page, text in pages.items()
        for picture in re.findall(r"<img\s[^>]*>", text)
    ]
    outputs = [page for page, _ in pictures if page.startswith("notebooks/")]
    assert set(outputs) == {f"notebooks/{path.stem}.html" for path in NOTEBOOKS}
    wordless = [page for page, alt in pictures if not alt or len(alt[1]) < 10]
    assert not wordless
    assert not [alt[1] for _, alt in pictures if "_images/" in alt[1]]  # a file's name


@pytest.mark.parametrize(
    ("number", "link"),
    [
        ("04", "03_losses.html#eq-3"),  # Eq. 3 is derived in 03
        ("00", "06_entropy.html#eq-7"),
        ("02", "03_losses.html#eq-a"),  # "(A) in notebook 03"
        ("03", "#eq-g"),
        ("05", "#eq-f"),
    ],
)
def test_a_mention_of_a_formula_leads_to_it(pages, site, number, link):
    page = page_of(number)
    assert re.search(rf'<a class="reference internal" href="{re.escape(link)}">', pages[page])
    target, _, anchor = link.rpartition("#")
    text = pages[f"notebooks/{target}" if target else page]
    assert re.search(rf'<div class="math[^"]*" id="{anchor}">', text)


def test_each_link_of_the_site_has_a_target(pages, site):
    ids = {page: set(re.findall(r'\sid="([^"]+)"', text)) for page, text in pages.items()}
    broken = []
    for page, text in pages.items():
        for link in re.findall(r'<a\s[^>]*href="([^"]+)"', text):
            parts = urlsplit(html.unescape(link))
            if parts.scheme or "slides/" in parts.path:
                continue
            target = (site / page).parent / parts.path if parts.path else site / page
            name = target.resolve().relative_to(site.resolve()).as_posix()
            known = name in ids and (not parts.fragment or parts.fragment in ids[name])
            if not target.exists() or (name in ids and not known):
                broken.append((page, link))
    assert not broken


def test_checks_and_the_cell_for_colab_are_folded(pages):
    for notebook in NOTEBOOKS:
        text = pages[f"notebooks/{notebook.stem}.html"]
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        hidden = [c for c in cells if c["metadata"].get("jupyter", {}).get("source_hidden")]
        assert text.count('<details class="admonition hide') == len(hidden) + 1
        assert "The cell for Colab" in text and "The check of exercise 1" in text


def test_a_page_needs_no_other_host(pages):
    """Links may lead away, but nothing that a browser loads by itself is elsewhere."""
    loaded = re.compile(
        r'<(?:script|img|iframe)\s[^>]*src="(https?:[^"]+)|<link\s[^>]*href="(https?:[^"]+)'
    )
    foreign = {a or b for text in pages.values() for a, b in loaded.findall(text)}
    assert not foreign


def test_the_reference_has_each_public_function(pages):
    reference = pages["docs/reference.html"]
    source = (ROOT / "docs/reference.rst").read_text()
    modules = re.findall(r"automodule:: (lclkit\.\w+)", source)
    files = {f"lclkit.{path.stem}" for path in ROOT.glob("lclkit/[!_]*.py")}
    assert set(modules) == files
    documented = set(re.findall(r'<dt class="sig[^"]*" id="([\w.]+)">', reference))
    for path in ROOT.glob("lclkit/[!_]*.py"):
        defined = ast.parse(path.read_text(encoding="utf-8")).body
        names = [node.name for node in defined if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        public = {f"lclkit.{path.stem}.{name}" for name in names if not name.startswith("_")}
        assert public <= documented
    assert str(ROOT) not in reference


@pytest.fixture(scope="module")
def visit(chromium, address):
    """A function that opens a page at a width, and what went wrong while it loaded."""
    tabs = {}

    def at(page: str, width: int = 1280) -> SimpleNamespace:
        if width not in tabs:
            tabs[width] = chromium.new_page(viewport={"width": width, "height": 900})
            tabs[width].on("console", lambda said: said.type == "error" and wrong.append(said.text))
            tabs[width].on("pageerror", lambda error: wrong.append(str(error)))
            tabs[width].on("requestfailed", failed)
            tabs[width].on("request", lambda request: foreign(request.url))
        wrong.clear()
        tabs[width].goto(f"{address}/{page}")
        return SimpleNamespace(tab=tabs[width], wrong=wrong)

    def failed(request):
        if request.failure != "net::ERR_ABORTED":  # the next page was opened before it came
            wrong.append(f"{request.failure}: {request.url}")

    def foreign(url):
        if not url.startswith((address, "data:", "blob:")):
            wrong.append(f"foreign: {url}")

    wrong = []
    yield at
    for tab in tabs.values():
        tab.close()


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_loads_whole_and_fits(pages, visit, width):
    for page in sorted(pages.keys() - {"index.html"}):  # which leads on at once
        seen = visit(page, width)
        excess = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert seen.tab.evaluate(excess) <= 0, f"{page} scrolls sideways"
        assert not seen.wrong, page


@pytest.mark.browser
def test_formulas_are_set(visit):
    tab = visit(page_of("03")).tab
    tab.wait_for_selector("#eq-3 mjx-container svg path", state="attached")
    tab.wait_for_function("document.querySelectorAll('.math:not(:has(mjx-container))').length == 0")
    assert tab.locator("mjx-container [data-mml-node=merror]").count() == 0
    assert tab.locator("#eq-3 .eqno").inner_text().startswith("(3)")


@pytest.mark.browser
def test_the_search_finds_temperature(visit):
    tab = visit("search.html?q=temperature").tab
    tab.wait_for_selector("#search-results ul.search li a")
    found = " ".join(tab.locator("#search-results ul.search li > a").all_inner_texts())
    assert title_of(NOTEBOOKS[3]) in found and title_of(NOTEBOOKS[6]) in found


@pytest.mark.browser
def test_the_page_turns_dark_but_not_its_pictures(visit):
    tab = visit(page_of("00")).tab
    colour = "what => getComputedStyle(document.querySelector(what)).backgroundColor"
    ground = {}
    for mode in ("light", "dark"):
        tab.locator(".theme-switch-button").click()
        tab.locator(f".theme-change-button[data-mode={mode}]").click()
        ground[mode] = tab.evaluate(colour, "body")
    assert ground["light"] != ground["dark"]
    assert tab.evaluate(colour, ".cell_output img") not in (ground["dark"], "rgba(0, 0, 0, 0)")


@pytest.mark.browser
def test_a_folded_check_opens(visit):
    tab = visit(page_of("00")).tab
    check = tab.locator("details.hide", has_text="The check of exercise 1").first
    assert not check.locator("pre").first.is_visible()
    check.locator("summary").click()
    assert check.locator("pre").first.is_visible()
