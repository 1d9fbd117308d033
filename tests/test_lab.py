"""The notebooks as a learner meets them: JupyterLab, in a real browser."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("jupyterlab")
expect = sync_api.expect

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ("00_quickstart", "03_losses")
SOLUTION = ROOT / "tests" / "solutions" / "00_quickstart" / "weighted_logits.py"
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false"},  # else it asks, over the notebook
    "notebook-extension/tracker": {"windowingMode": "none"},  # all cells, not only those in sight
}
RED = ", ".join(
    f'.jp-Notebook [data-mime-type="application/vnd.jupyter.{kind}"]'
    for kind in ("stderr", "error")
)
pytestmark = [pytest.mark.browser, pytest.mark.slow]


def own_jupyter(folder):
    """The environment of a Jupyter that neither sees nor changes what the user has."""
    own = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    for name, setting in SETTINGS.items():
        file = folder / "CONFIG/lab/user-settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(setting))
    return os.environ | own | {"IPYTHONDIR": str(folder / "ipython"), "LCLKIT_PROFILE": "ci"}


def address_of(server, folder, log):
    """Where a server that has just been started shows a notebook; it picks port and token."""
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        for file in (folder / "RUNTIME").glob("jpserver-*.json"):
            with contextlib.suppress(json.JSONDecodeError):  # half written
                written = json.loads(file.read_text())
                return f"{written['url']}lab/tree/{{}}?reset&token={written['token']}"
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, chromium):
    """The address of a notebook in a JupyterLab of its own, which has copies, as a learner does."""
    folder = tmp_path_factory.mktemp("lab")
    work, log = folder / "work", folder / "log.txt"
    work.mkdir()
    for name in NOTEBOOKS:
        shutil.copy(ROOT / "notebooks" / f"{name}.ipynb", work / f"my-{name}.ipynb")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", work]
    with open(log, "w") as file:
        server = subprocess.Popen(
            command,
            env=own_jupyter(folder),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield address_of(server, folder, log)
    finally:
        server.terminate()  # it ends its kernels
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)  # a kernel ends when its server has
            server.wait()


@pytest.fixture
def opened(chromium, lab, tmp_path):
    """Open a notebook; what goes wrong in it comes with a screenshot."""

    @contextlib.contextmanager
    def open_notebook(name):
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.route("https://**", lambda route: route.abort())  # the badge of Colab
        try:
            page.goto(lab.format(f"my-{name}.ipynb"))
            # Without being asked for it; and who runs cells before it is there, is asked.
            page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
            yield page
        except Exception as error:
            picture = tmp_path / f"{name}.png"
            page.screenshot(path=picture)
            error.add_note(f"What the browser showed: {picture}")
            raise
        finally:
            page.close()

    return open_notebook


def choose(page, menu, item):
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=item, exact=True).click()


def run_all(page):
    """Run all cells to the end; nothing in red."""
    choose(page, "Edit", "Clear Outputs of All Cells")
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    expect(prompts.first).to_have_text("[ ]:")
    choose(page, "Run", "Run All Cells")
    expect(prompts.first).to_have_text("[1]:", timeout=60_000)
    expect(prompts.filter(has_text="*")).to_have_count(0, timeout=300_000)
    red = page.locator(RED)
    assert not red.count(), red.all_inner_texts()
    expect(prompts.filter(has_text="[ ]:")).to_have_count(0)


def cell(page, text):
    return page.locator(".jp-CodeCell").filter(has_text=text)


def test_a_check_is_folded_and_opens_on_a_click(opened):
    with opened("00_quickstart") as page:
        check = cell(page, "The check of exercise 1")
        expect(check).to_be_attached()
        expect(check.locator(".jp-OutputArea")).to_have_text("exercise 1: not solved yet")
        expect(check.locator(".cm-content")).to_have_count(0)
        check.locator(".jp-Placeholder").click()
        expect(check.locator(".cm-content")).to_contain_text("def check_weighted_logits")


def test_the_first_notebook_runs_and_a_typed_exercise_is_ok(opened):
    with opened("00_quickstart") as page:
        run_all(page)
        pictures = page.locator(".jp-OutputArea img")
        widths = pictures.evaluate_all("all => all.map(image => image.naturalWidth)")
        assert len(widths) == 5 and all(widths)
        assert page.locator("mjx-container[display='true']").count()
        assert not page.locator("mjx-merror, [data-mjx-error]").count()

        expect(page.get_by_text("exercise 1: not solved yet")).to_be_visible()
        cell(page, "def weighted_logits").locator(".cm-content").click()
        page.keyboard.press("Control+A")
        # As by hand: the editor indents a new line.
        page.keyboard.type("\n".join(line.strip() for line in SOLUTION.read_text().splitlines()))
        page.keyboard.press("Shift+Enter")  # to the check
        page.keyboard.press("Shift+Enter")
        expect(page.get_by_text("exercise 1: ok")).to_be_visible(timeout=30_000)


def test_a_slider_moved_by_mouse_or_keyboard_changes_the_picture(opened):
    with opened("03_losses") as page:
        run_all(page)
        picture = page.locator("img.lcl:visible")
        for name, keys in {"temperature": "ArrowRight", "Ψ's confidence": "ArrowUp"}.items():
            slider = page.get_by_label(name, exact=True)
            before = picture.get_attribute("alt"), picture.screenshot()
            slider.click(position={"x": 2, "y": 8})
            moved = picture.get_attribute("alt"), picture.screenshot()
            assert before[0] != moved[0] and before[1] != moved[1], name
            page.keyboard.press(keys)
            after = picture.get_attribute("alt"), picture.screenshot()
            assert moved[0] != after[0] and moved[1] != after[1], f"{name}, {keys}"
