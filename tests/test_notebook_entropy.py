"""Notebook 06's own definitions: calibration, temperature, and risk at a coverage."""

import math
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from test_notebooks import ROOT, definitions, read

from lclkit import losses

NOTEBOOK = read(ROOT / "notebooks" / "06_entropy.ipynb")


@pytest.fixture(scope="module")
def nb():
    space = definitions(NOTEBOOK)
    return SimpleNamespace(**{name: x for name, x in space.items() if not name.startswith("__")})


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_reliability_by_hand(nb):
    p = np.array(
        [
            [0.5, 0.3, 0.2],
            [0.2, 0.2, 0.6],
            [0.1, 0.7, 0.2],
            [0, 0.75, 0.25],
            [0.9, 0.1, 0],
            [0, 0, 1],
        ]
    )
    labels = np.array([0, 0, 1, 1, 0, 2])
    table = nb.reliability(p, labels, bins=4)
    assert list(table.low) == [0, 0.25, 0.5, 0.75]
    assert list(table.high) == [0.25, 0.5, 0.75, 1]
    assert list(table.texts) == [0, 1, 3, 2]  # an edge counts below it
    np.testing.assert_allclose(table.confidence, [np.nan, 0.5, 2.05 / 3, 0.95])
    np.testing.assert_allclose(table.accuracy, [np.nan, 1, 2 / 3, 1])
    error = nb.expected_calibration_error(p, labels, bins=4)
    assert error == pytest.approx((0.5 + 0.05 + 0.1) / 6)


@pytest.mark.parametrize("right, bins, expected", [(3, 15, 0), (4, 15, 0.25), (0, 1, 0.75)])
def test_calibration_error_of_equal_rows(nb, right, bins, expected):
    p = np.array([[0.75, 0.25]] * 4)
    labels = np.array([0] * right + [1] * (4 - right))
    assert nb.expected_calibration_error(p, labels, bins) == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 5, 32])
def test_proper_scores_of_uniform_rows(nb, classes):
    p, labels = np.full((3, classes), 1 / classes), np.array([0, 1, classes - 1])
    assert nb.brier_score(p, labels) == pytest.approx(1 - 1 / classes)
    assert nb.negative_log_likelihood(p, labels) == pytest.approx(math.log(classes))


def test_proper_scores_by_hand(nb):
    p = np.array([[0.7, 0.2, 0.1], [0, 1, 0]])
    brier = (0.49 + 0.64 + 0.01 + 2) / 2
    assert nb.brier_score(p, np.array([1, 0])) == pytest.approx(brier)
    of_one = -math.log(0.2) / 2
    assert nb.negative_log_likelihood(p, np.array([1, 1])) == pytest.approx(of_one)
    of_floor = -(math.log(0.7) + math.log(1e-8)) / 2
    assert nb.negative_log_likelihood(p, np.array([0, 0])) == pytest.approx(of_floor)


def test_negative_log_likelihood_agrees_with_sklearn(nb):
    rng = np.random.default_rng(0)
    p, labels = rng.dirichlet(np.ones(5), 300), rng.integers(0, 5, 300)
    expected = log_loss(labels, p, labels=range(5))
    assert nb.negative_log_likelihood(p, labels) == pytest.approx(expected)


def test_risk_coverage_by_hand(nb):
    p = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]])
    labels = np.array([1, 0, 1, 1, 0])  # wrong, right, right, right, wrong
    curve = nb.risk_coverage(p, labels)
    np.testing.assert_allclose(curve.confidence, [0.9, 0.8, 0.7, 0.6])
    np.testing.assert_allclose(curve.coverage, [0.2, 0.4, 0.6, 1])  # two texts of 0.6 together
    np.testing.assert_allclose(curve.risk, [0, 0, 1 / 3, 2 / 5])
    assert nb.risk_coverage_area(p, labels) == pytest.approx(0.2 / 3 + 0.4 * 0.4)


def test_risk_coverage_of_confidence_that_says_nothing(nb):
    p, labels = np.array([[0.6, 0.4]] * 5), np.array([0, 1, 1, 0, 0])
    assert nb.risk_coverage_area(p, labels) == pytest.approx(0.4)


def test_temperature_by_hand(nb):
    # odds of 9 and three of four right: the likelihood wants odds of 3, the square root
    p = np.array([[0.9, 0.1]] * 4)
    assert nb.fit_temperature(p, np.array([0, 0, 1, 0])) == pytest.approx(2, rel=1e-4)
    np.testing.assert_allclose(nb.apply_temperature(p, 2), [[0.75, 0.25]] * 4)


@pytest.mark.parametrize("t", [0.4, 1, 3])
def test_temperature_is_found_again(nb, t):
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(5, 2), 4000)
    labels = (p.cumsum(1) < rng.random((4000, 1))).sum(1)  # drawn from p: calibrated
    spoiled = nb.apply_temperature(p, 1 / t)
    assert nb.fit_temperature(spoiled, labels) == pytest.approx(t, rel=0.06)
    np.testing.assert_array_equal(spoiled.argsort(1), p.argsort(1))
    np.testing.assert_allclose(nb.apply_temperature(spoiled, t), p, atol=2e-3)  # the floor
    fitted = nb.apply_temperature(spoiled, nb.fit_temperature(spoiled, labels))
    before = nb.negative_log_likelihood(spoiled, labels)
    assert nb.negative_log_likelihood(fitted, labels) <= before
    assert nb.expected_calibration_error(fitted, labels) < 0.03


@pytest.mark.parametrize("labels, t", [([0, 1], 1 / 20), ([1, 0], 20)])
def test_temperature_stays_within_its_bounds(nb, labels, t):
    p = np.array([[0.8, 0.2], [0.1, 0.9]])
    assert nb.fit_temperature(p, np.array(labels)) == pytest.approx(t, rel=1e-3)


@pytest.mark.parametrize("name", ["negative_log_likelihood", "brier_score", "risk_coverage_area"])
def test_four_digits_are_enough(nb, name):
    p = np.random.default_rng(0).dirichlet(np.full(32, 0.2), 500)
    labels = p.argmax(1)
    packed = np.vectorize(lambda x: float(f"{x:.4g}"))(p)
    packed /= packed.sum(1, keepdims=True)  # as the notebook reads them
    measure = getattr(nb, name)
    assert measure(packed, labels) == pytest.approx(measure(p, labels), rel=1e-3, abs=1e-9)


def cell_with(code):
    (cell,) = [c for c in NOTEBOOK.cells if c.cell_type == "code" and code in c.source]
    return cell


def printed(code):
    return "".join(out.text for out in cell_with(code).outputs if "text" in out)


def table_of(code):
    """The committed table of that cell; an index that spans rows is repeated in each."""
    outputs = cell_with(code).outputs
    (html,) = [x["data"]["text/html"] for x in outputs if "text/html" in x.get("data", {})]
    head, below, *lines = [
        [re.sub("<.*?>", "", entry) for entry in re.findall("<t[hd].*?</t[hd]>", row, re.DOTALL)]
        for row in re.findall("<tr.*?</tr>", html, re.DOTALL)
    ]
    names, rows, last = [a or b for a, b in zip(head, below, strict=True)], [], []
    for line in lines:
        last = last[: len(names) - len(line)] + line
        rows.append(dict(zip(names, last, strict=True)))
    return rows


def claims(code):
    return {(row["of"], row["pair"]): row["claimed"] for row in table_of(code)}


def value(code, of, pair):
    (row,) = [row for row in table_of(code) if (row["of"], row["pair"]) == (of, pair)]
    return float(row["difference"])


def test_all_are_underconfident_as_committed():
    rows = table_of('"of these wrong"')
    assert len(rows) == 3
    assert all(row["interval over seeds"].split(" to ")[1].startswith("-") for row in rows)


def test_what_scaling_leaves_is_what_the_text_says():
    code = '"bits, {name}"'
    said = claims(code)
    assert said["bits, before", "LCL - CE"] == said["bits, before", "LCL - SCL"] == "yes"
    assert said["bits, after", "LCL - CE"] == "no" and said["bits, after", "LCL - SCL"] == "yes"
    left = {
        pair: value(code, "bits, after", pair) / value(code, "bits, before", pair)
        for pair in ("LCL - CE", "LCL - SCL")
    }
    assert said["bits, before", "SCL - CE"] == "no" and said["bits, after", "SCL - CE"] == "yes"
    assert value(code, "bits, after", "SCL - CE") > 0
    assert left["LCL - CE"] < 0.25 and left["LCL - SCL"] == pytest.approx(1 / 3, abs=0.04)
    nll = claims('"NLL, after"')
    assert nll["NLL, before", "LCL - CE"] == nll["NLL, before", "LCL - SCL"] == "yes"
    assert nll["NLL, after", "LCL - CE"] == "no" and nll["NLL, after", "LCL - SCL"] == "yes"
    (last,) = [row for row in table_of('"NLL, after"') if row["pair"] == "CE after - LCL before"]
    assert float(last["difference"]) < 0 and last["claimed"] == "no"
    low, high = map(float, last["over seeds"].split(" to "))
    assert low < 0 <= high
    corrected = [row["Holm's p"] for x in (code, '"NLL, after"') for row in table_of(x)]
    assert sum(p != "" for p in corrected) == 12
    assert all(float(p) >= 0.05 for p in corrected if p)
    temperatures = re.findall(r"\d\.\d\d", printed("fit_temperature(p_seed"))
    assert len(temperatures) == 9 and all(float(t) < 1 for t in temperatures)
    for row in table_of('{"loss": loss, "scaling": "after"'):
        low, high = map(float, row["ECE above luck"].split(" to "))
        assert (low <= 0 <= high) == (row["scaling"] == "after")


def test_what_is_said_of_risk_is_what_was_measured():
    lines = printed("def areas(").splitlines()
    assert [line.endswith(": claimed") for line in lines] == [False, True, False]
    for row in table_of("def areas("):
        assert float(row["worth"].split(" to ")[0]) > 0.1
        assert abs(float(row["area"]) - float(row["after"])) <= 1e-3
    assert all(float(re.search(r"Holm's p ([\d.]+)", line)[1]) >= 0.05 for line in lines)
    at_half = re.findall(r"(0\.\d+) of (0\.\d+)", printed("at_half = "))
    assert len(at_half) == 3
    for risk, error in at_half:
        assert float(risk) / float(error) == pytest.approx(1 / 3, abs=0.04)


def test_most_runs_on_real_emotions_are_overconfident_and_few_differences_are_claimed():
    lines = printed("over = sum(t_run") + printed("map(sum, zip(*counts))")
    over = re.findall(r"overconfident: (\d+) of (\d+) runs", lines)
    hot, runs = (sum(map(int, counts)) for counts in zip(*over, strict=True))
    assert hot > runs / 2 and f"T above 1 in {hot} of {runs} runs" in lines
    assert "of 58 differences claimed, by both intervals: 7 before and 4 after" in lines
    assert "Of 58 differences seven can be claimed before" in str(NOTEBOOK)
    encoders = set(re.findall(r"^\S+: (.+), \d+ seeds", lines, re.MULTILINE))
    assert encoders == {"minilm, top 2 layers", "minilm", "all-mpnet-base-v2"}
    assert set(re.findall(r", (\d+) seeds", lines)) == {"3", "5"}
    assert "Section 9 has runs that are." in str(NOTEBOOK)


@pytest.mark.parametrize("positives", [1, 3])
def test_the_released_loss_of_a_done_anchor_is_about_w_ln_w(positives):
    """Negatives opposite, positives on the anchor; the printed one does not fall below ln |P|."""
    rows = positives + 1
    h = torch.tensor([[1.0, 0]] * rows + [[-1.0, 0]] * rows, dtype=torch.float64)
    labels = torch.tensor([0] * rows + [1] * rows)
    for w in (0.2, 0.5, 0.9):
        own = torch.tensor([[w, 1 - w]] * rows + [[1 - w, w]] * rows, dtype=torch.float64)
        released = losses.lcl_loss(h, labels, own.log(), 0.05)
        printed_form = losses.lcl_loss(h, labels, own.log(), 0.05, "printed")
        assert released.item() == pytest.approx(w * math.log(w * positives), abs=1e-9)
        assert printed_form.item() == pytest.approx(math.log(positives), abs=1e-9)


def test_which_way_each_form_pushes():
    rows = {float(row["w"]): row for row in table_of("def slope_in_w")}
    assert len(rows) == 4
    for w, row in rows.items():
        assert (float(row["released, negatives gone"]) > 0) == (w > 1 / math.e + 0.001)
        assert (float(row["released, negatives near"]) > 0) == (w < 0.5)
        assert float(row["printed, negatives gone"]) < 0 > float(row["printed, negatives near"])
