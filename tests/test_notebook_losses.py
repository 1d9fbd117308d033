"""Notebook 03's own definitions against lclkit.losses: a test for each equation."""

import contextlib
import io
import math
import re
from types import SimpleNamespace

import pytest
import torch
from test_notebooks import ROOT, code, definitions, read, tagged
from torch.nn.functional import cross_entropy, normalize

from lclkit import losses, plots

NOTEBOOK = read(ROOT / "notebooks" / "03_losses.ipynb")
TAU = 0.2


@pytest.fixture(scope="module")
def nb():
    """The notebook's definitions, as attributes; it works in float64."""
    before = torch.get_default_dtype()
    yield SimpleNamespace(
        **{name: x for name, x in definitions(NOTEBOOK).items() if not name.startswith("__")}
    )
    torch.set_default_dtype(before)


@pytest.fixture(params=range(3))
def batch(request):
    """h, y, z, all awkward: a lone anchor, classes of uneven size, one class absent."""
    generator = torch.Generator().manual_seed(request.param)
    h = normalize(torch.randn(11, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    z = 2 * torch.randn(11, 6, generator=generator, dtype=torch.float64)
    return h, torch.tensor([3, 0, 0, 5, 3, 3, 1, 2, 0, 2, 3]), z.requires_grad_()


def same(one, other, *inputs, tolerance=1e-12):
    """Equal values, and equal gradients with respect to the inputs."""
    torch.testing.assert_close(one, other, rtol=0, atol=tolerance)
    if inputs:
        torch.testing.assert_close(
            *(torch.autograd.grad(x, inputs, retain_graph=True) for x in (one, other)),
            rtol=0,
            atol=tolerance,
        )


def eq_1(nb, h, y, z):
    uneven, pairs = torch.tensor([4, 2, 3, 10, 0, 1, 9, 5, 7, 6, 8]), torch.arange(10) ^ 1
    same(nb.self_by_loop(h, uneven, TAU), nb.self_loss(h, uneven, TAU), h)
    same(nb.self_loss(h[:10], pairs, TAU), losses.scl_loss(h[:10], torch.arange(10) // 2, TAU), h)


def eq_2(nb, h, y, z):
    for found in (nb.scl_by_loop(h, y, TAU), nb.scl_loss(h, y, TAU)):
        same(found, losses.scl_loss(h, y, TAU), h)


def eq_3(nb, h, y, z):
    printed = losses.lcl_loss(h, y, z.log_softmax(1), TAU, "printed")
    for found in (
        nb.lcl_by_loop(h, y, z.softmax(1), TAU),
        nb.lcl_loss(h, y, z.log_softmax(1), TAU),
    ):
        same(found, printed, h, z)


def eq_4(nb, h, y, z):
    """The sum is the notebook's mean times its anchors with a positive: all but rows 3 and 6."""
    printed = losses.lcl_loss(h, y, z.log_softmax(1), TAU, "printed", "sum")
    same(9 * nb.lcl_loss(h, y, z.log_softmax(1), TAU), printed, h, z)


def eq_5(nb, h, y, z):
    """Weights are a softmax: a number added to all logits of a row changes nothing."""
    shifted = z + torch.linspace(-50, 50, len(z), dtype=z.dtype)[:, None]
    same(
        nb.lcl_loss(h, y, shifted.log_softmax(1), TAU),
        losses.lcl_loss(h, y, z.log_softmax(1), TAU, "printed"),
        h,
        z,
    )


def eq_6(nb, h, y, z):
    ce, contrastive = cross_entropy(z, y), losses.lcl_loss(h, y, z.log_softmax(1), TAU)
    same(losses.joint_loss(ce, 2 * ce, contrastive, 0.1), 0.3 * ce + 0.9 * contrastive, h, z)


def eq_a(nb, h, y, z):
    for found in (losses.scl_loss, nb.scl_loss):
        same(found(h[:1].repeat(11, 1), y, TAU), torch.tensor(math.log(10), dtype=h.dtype))


def eq_b(nb, h, y, z):
    i, positives = 1, nb.positives_of(y)[1]
    (slope,) = torch.autograd.grad(
        -nb.others_only(h @ h.T / TAU).log_softmax(1)[i, positives].mean(), h
    )
    expected = (nb.shares(h, TAU)[i] - positives / positives.sum())[:, None] * h[i] / TAU
    others = torch.arange(11) != i
    torch.testing.assert_close(slope[others], expected[others], rtol=0, atol=1e-12)


def eq_c(nb, h, y, z):
    """Weights before the exponentials against log-weights in the exponent."""
    weighted = (z.softmax(1)[:, y] * (h @ h.T / TAU).exp()).fill_diagonal_(0)
    expected = weighted / weighted.sum(1, keepdim=True)
    torch.testing.assert_close(nb.shares(h, TAU, z.log_softmax(1), y), expected, rtol=0, atol=1e-12)


def eq_d(nb, h, y, z):
    same(
        nb.released_loss(h, y, z.log_softmax(1), TAU),
        losses.lcl_loss(h, y, z.log_softmax(1), TAU),
        h,
        z,
    )


def anchors(nb, h, y, z):
    """Of the anchors with a positive: printed, released, and the own class's log-weight."""
    log_w = z.detach().log_softmax(1)
    own = log_w.gather(1, y[:, None])
    log_share = nb.others_only(h @ h.T / TAU + log_w[:, y]).log_softmax(1)
    printed, released = nb.per_anchor(log_share, y), nb.per_anchor(own.exp() * (log_share - own), y)
    torch.testing.assert_close(printed.mean(), losses.lcl_loss(h, y, log_w, TAU, "printed"))
    torch.testing.assert_close(released.mean(), losses.lcl_loss(h, y, log_w, TAU, "released"))
    return printed, released, own.squeeze(1)[nb.positives_of(y).any(1)]


def eq_e(nb, h, y, z):
    printed, released, own = anchors(nb, h, y, z)
    torch.testing.assert_close(released, own.exp() * (printed + own), rtol=0, atol=1e-12)


def eq_f(nb, h, y, z):
    printed, released, own = anchors(nb, h, y, z)
    for i, log_w in enumerate(own):
        found, expected = (
            torch.autograd.grad(loss[i], h, retain_graph=True)[0] for loss in (released, printed)
        )
        torch.testing.assert_close(found, log_w.exp() * expected, rtol=0, atol=1e-12)


def eq_g(nb, h, y, z):
    uniform, scl = torch.full_like(z, -math.log(6)), losses.scl_loss(h, y, TAU)
    same(nb.lcl_loss(h, y, uniform, TAU), scl, h)
    same(nb.released_loss(h, y, uniform, TAU), (scl - math.log(6)) / 6, h)


def eq_h(nb, h, y, z):
    """Reached without negatives at w = 1/(e |P|), and never passed."""
    floor = -1 / (10 * math.e)
    at = torch.tensor([[1 + floor, -floor]], dtype=h.dtype).log().repeat(11, 1)
    same(
        losses.lcl_loss(h[:1].repeat(11, 1), torch.ones_like(y), at, TAU),
        torch.tensor(floor, dtype=h.dtype),
    )
    sizes = nb.positives_of(y).sum(1)
    bound = -(1 / (math.e * sizes[sizes > 0])).mean()
    for sure in (0.05, 0.2, 0.4):
        assert losses.lcl_loss(h, y, own_weight(y, sure), 5.0) > bound


def eq_i(nb, h, y, z):
    for alpha, count in ((0.5, 2), (0.5, 10), (0.1, 3), (0.3, 1)):
        w = nb.preferred_confidence(alpha, count)
        assert 0 < w < 1 and alpha / w == pytest.approx(
            (1 - alpha) * (1 + math.log(w) + math.log(count))
        )
        logits = (
            torch.tensor([math.log(1 - w), math.log(w)], dtype=h.dtype)
            .repeat(count + 1, 1)
            .requires_grad_()
        )
        ones = torch.ones(count + 1, dtype=torch.long)
        contrastive = losses.lcl_loss(h[:1].repeat(count + 1, 1), ones, logits.log_softmax(1), TAU)
        (slope,) = torch.autograd.grad(
            losses.joint_loss(0, cross_entropy(logits, ones), contrastive, alpha), logits
        )
        assert slope.abs().max() < 1e-9
    assert nb.preferred_confidence(0.5, 1) == nb.preferred_confidence(0.9, 10) == 1


def eq_j(nb, h, y, z):
    q, weighted = nb.shares(h, TAU), nb.shares(h, TAU, z.log_softmax(1), y)
    w = z.softmax(1)[0, y]
    torch.testing.assert_close(weighted[0, 1:] / weighted[0, 1], w[1:] / w[1] * q[0, 1:] / q[0, 1])


def eq_k(nb, h, y, z):
    q, w = nb.shares(h, TAU), z.softmax(1)[:, y]
    expected = q * w / (q * w).sum(1, keepdim=True)
    torch.testing.assert_close(nb.shares(h, TAU, z.log_softmax(1), y), expected)
    (slope,) = torch.autograd.grad(
        losses.lcl_loss(h, y, z.log_softmax(1), TAU, "printed", "sum"), h
    )
    pull = expected - nb.positives_of(y) / nb.positives_of(y).sum(1, keepdim=True).clamp(min=1)
    pull = (
        pull * nb.positives_of(y).any(1, keepdim=True) / TAU
    )  # (B) with q', summed over the anchors
    torch.testing.assert_close(slope, pull.T @ h + pull @ h)


def eq_l(nb, h, y, z):
    """What a pair does to each other is the sum of both views, so the same for both."""
    log_w, positives = z.detach().log_softmax(1), nb.positives_of(y)
    targets = positives / positives.sum(1, keepdim=True).clamp(min=1)
    g = (nb.shares(h, TAU, log_w, y) - targets) * positives.any(1, keepdim=True)
    (slope,) = torch.autograd.grad(losses.lcl_loss(h, y, log_w, TAU, "printed", "sum"), h)
    torch.testing.assert_close(slope, (g + g.T) @ h / TAU)
    assert not torch.allclose(log_w[:, y], log_w[:, y].T)


def own_weight(y, sure):
    """Log-weights, `sure` for the own class and the rest in uneven parts."""
    own = torch.nn.functional.one_hot(y, 6).bool()
    rest = torch.arange(1.0, 7, dtype=torch.float64).expand(len(y), 6).masked_fill(own, 0)
    return (rest / rest.sum(1, keepdim=True) * (1 - sure)).masked_fill(own, sure).log()


EQUATIONS = {
    name.removeprefix("eq_").upper(): test
    for name, test in list(globals().items())
    if name.startswith("eq_")
}


@pytest.mark.parametrize("equation", EQUATIONS)
def test_equation(equation, nb, batch):
    EQUATIONS[equation](nb, *batch)


def test_every_equation_of_the_notebook_has_a_test():
    text = "\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")
    assert sorted(re.findall(r"\\tag\{(\w+)\}", text)) == sorted(EQUATIONS)


def test_every_check_says_ok():
    printed = "".join(
        output.get("text", "") for cell in NOTEBOOK.cells for output in cell.get("outputs", [])
    )
    assert len(re.findall(r"\bok\b", printed)) >= 25 and "NOT" not in printed


TEXT = "\n\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")


def printed():
    """All that the notebook printed, as committed."""
    outputs = [output for cell in NOTEBOOK.cells for output in cell.get("outputs", [])]
    return "\n".join(x.get("text") or x.get("data", {}).get("text/plain", "") for x in outputs)


# A number in the text, and where it was printed.
SAID = {
    r"\\ln 127 = ([\d.]+)\$": r"ln\(2·64 - 1\) = ([\d.]+)",
    r"stuck at ([\d.]+)": r"0\.1 / 0\.07: ([\d.]+)",
    r"held near (\d+) %": r"α 0\.5, \|P\| =  3: w\* = 0\.(\d+)",
    r"bites everywhere: (\d+) %": r"α 0\.1, \|P\| =  1: w\* = 0\.(\d+)",
    r"one positive, (\d+) % with three": r"α 0\.1, \|P\| =  3: w\* = 0\.(\d+)",
    r"^(640) times on Emp": r"EmpatheticDialogues +32 +(640)\.0",
    r"\\alpha = (0\.9984)\$": r"\n0 +(0\.9984)",
    r"to (\d+)° on average": r"LCL printed +(\d+) +\d+ +\d+ +\d+",
    r"\(SCL: (\d+)°\)": r"\nSCL +(\d+) +\d+ +\d+ +\d+",
}


@pytest.mark.parametrize("sentence", SAID)
def test_numbers_in_the_text_are_those_of_the_outputs(sentence):
    said, found = re.search(sentence, TEXT, re.MULTILINE), re.search(SAID[sentence], printed())
    assert said[1] == found[1]


def test_what_the_text_says_of_section_7_and_of_the_toy():
    output = printed()
    harder, released = (
        float(re.search(rf"devastated, {form}: at most ([\d.]+)", output)[1])
        for form in ("printed", "released")
    )
    assert 4 <= harder < 4.5  # "at most about four times as hard"
    assert released < 1  # "it stays below SCL throughout"
    assert 0.4 < float(re.search(r"harder than in SCL up to w = ([\d.]+)", output)[1]) < 0.6
    lows = re.findall(r"LCL \w+ +\d+ \((-?\d+) to", output)
    assert len(lows) == 2 and all(int(low) > 0 for low in lows)  # "moves partners apart"
    for form in ("printed", "released"):  # "in 4 starts of 10, one pair in the other 6"
        opposite = re.search(rf"LCL {form} +\[([\d, ]+)\]", output)[1].split(", ")
        assert opposite == ["1"] * 6 + ["3"] * 4
    assert "in 4 starts of 10, one pair in the other 6" in TEXT
    assert output.count(": True") == 2 and "False" not in output  # what to see in the grid


def test_the_batches_that_still_push_up_are_those_without_three_positives():
    (end,) = re.findall(r"\|P\| = 1 for all anchors: (.*)", printed())
    alone, up = re.findall(r"(\d+) of 20 batches.*: (\d+); the same, ok", end)[0]
    assert alone == up != "0"
    assert re.search(rf"\n0\.95 +{up} ", printed())  # the table before


def test_a_single_push_can_exceed_scl_in_the_released_form_too():
    """So the summary speaks of the scene; all negatives together are pushed less."""
    q = torch.tensor([0.05, 0.05, 0.9], dtype=torch.float64)  # positive, one negative, others
    w = torch.tensor([0.5, 0.49, 0.01], dtype=torch.float64)
    pushes = 0.5 * (q * w / (q * w).sum())[1:]
    assert pushes[0] > 4 * q[1] and pushes.sum() < q[1:].sum()
    assert "in the scene of section 7, only in the printed form" in TEXT


def test_few_positives_lift_the_average_weight_above_nearly_every_negative(nb):
    """Section 7, in the batches of section 6: the near rows are not mostly positives."""
    (cell,) = [cell for cell in code(NOTEBOOK) if "def paper_batch" in cell.source]
    space = dict(vars(nb))
    exec(cell.source, space)
    held, harder = [], []
    for seed in range(20):
        h, y, z = space["paper_batch"](seed, sure=0.5)
        q, w, positives = nb.shares(h, 0.3), z.softmax(1)[:, y], nb.positives_of(y)
        held.append((q * positives).sum(1).mean())
        gains = w > (q * w).sum(1, keepdim=True)
        harder.append(gains[y[:, None] != y].double().mean())
    assert 0.4 < sum(held) / 20 < 0.5 and sum(harder) / 20 < 0.01
    assert "few as they may be, they lift that average" in TEXT


def test_what_the_text_says_of_the_cosines():
    """Mean, least and greatest of 20 batches, for two forms and three confidences."""
    rows = re.findall(r"0\.(?:10|50|95) +(-?[\d.]+) +(-?[\d.]+) +(-?[\d.]+)", printed())
    assert len(rows) == 6
    assert all(float(least) > 0 for _, least, _ in rows[:3])  # printed: "in all of these batches"
    assert all(float(most) < 0 for _, _, most in rows[4:])  # released: "once Ψ is fairly sure"


def test_the_fault_is_one_that_hides():
    symptom = re.search(
        r"loss ([\d.]+); by Eq. 2: ([\d.]+)\nafter one step NaN: (\d+) of (\d+)", printed()
    )
    assert symptom[1] == symptom[2] and symptom[3] == symptom[4]


@pytest.mark.parametrize("solved", (False, True))
def test_the_plot_of_the_prediction_waits_for_it(solved, tmp_path):
    """And nothing of it is in the committed page."""
    answer = (ROOT / "tests/solutions/03_losses/turns.py").read_text()
    (stub,), (check,), (cell,) = (
        tagged(NOTEBOOK, tag) for tag in ("exercise-turns", "check-turns", "plot-turns")
    )
    space, said = definitions(NOTEBOOK) | {"folder": tmp_path, "origin": {}}, io.StringIO()
    with contextlib.redirect_stdout(said):
        plots.use_style()
        for source in (answer if solved else stub.source, check.source, cell.source):
            exec(source, space)
    assert (tmp_path / "figures" / "03_turns.png").exists() == solved
    assert ("away from its own positive" in said.getvalue()) == solved
    assert cell.metadata.jupyter.source_hidden and "image/png" not in str(cell.outputs)


def test_every_picture_behind_the_sliders_has_words():
    (page,) = (
        output.data["text/html"]
        for cell in NOTEBOOK.cells
        for output in cell.get("outputs", [])
        if "<input" in output.get("data", {}).get("text/html", "")
    )
    words = re.findall(r'<img class="lcl"[^>]* alt="([^"]+)"', page)
    assert len(words) == len(set(words)) == page.count("<img") == 25
