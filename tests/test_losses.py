"""The losses against three judges: the authors' values, loops over the equations, closed forms."""

import itertools
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed
from torch.nn.functional import normalize, one_hot
from torch.nn.parallel import DistributedDataParallel

from lclkit.losses import FORMS, joint_loss, lcl_loss, scl_loss

SUPERVISED = ("scl", *FORMS)
UNEVEN = [0, 3, 3, 1, 0, 3, 5, 3, 1]  # 2, 4 and 2 rows, a lone anchor (5), 2 and 4 absent
VIEWS = torch.tensor([3, 4, 6, 0, 1, 7, 2, 5])  # g(i) of Eq. 1


def batch(labels=UNEVEN, classes=6, seed=0, dtype=torch.float64):
    random = np.random.default_rng(seed)
    h = normalize(torch.from_numpy(random.standard_normal((len(labels), 5))), dim=1).to(dtype)
    logits = torch.from_numpy(2 * random.standard_normal((len(labels), classes)))
    return h.requires_grad_(), torch.tensor(labels), logits.requires_grad_()


def loss_of(form, h, y, logits, tau=0.3, reduction="mean", **options):
    if form in FORMS:
        return lcl_loss(h, y, logits.log_softmax(1), tau, form, reduction, **options)
    return scl_loss(h, y, tau, reduction=reduction, **options)


def by_loops(form, h, y, logits, tau=0.3, reduction="mean"):
    """Eqs. 1-4 as they stand on the page: exp, sums and fractions; no mask, no log-sum-exp."""
    rows, losses = range(len(h)), []
    for i in rows:

        def weight(k, i=i):
            return logits[i].softmax(0)[y[k]] if form in FORMS else 1.0

        positives = [y[i]] if form == "self" else [p for p in rows if y[p] == y[i] and p != i]
        everyone = sum(weight(k) * (h[i].dot(h[k]) / tau).exp() for k in rows if k != i)
        total = 0.0
        for p in positives:
            closeness = (h[i].dot(h[p]) / tau).exp()
            total += (
                weight(i) * (closeness / everyone).log()
                if form == "released"
                else (weight(i) * closeness / everyone).log()
            )
        if positives:
            losses.append(-total / len(positives))
    return sum(losses) / (len(losses) if reduction == "mean" else 1) if losses else 0 * h.sum()


def gradients(loss, inputs):
    return torch.autograd.grad(loss, inputs, retain_graph=True, materialize_grads=True)


def agree(actual, expected, inputs, rtol=1e-10, atol=1e-12, gradient_rtol=None):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)
    torch.testing.assert_close(
        gradients(actual, inputs),
        gradients(expected, inputs),
        rtol=gradient_rtol or rtol,
        atol=atol,
    )


@pytest.mark.parametrize("case", range(6))
def test_authors_values_and_gradients(case):
    """Their code run in float64, its masks too; as it stands these are float32 (1.6e-8 off)."""
    with np.load(Path(__file__).with_name("oracle.npz")) as arrays:
        known = {
            name: torch.from_numpy(arrays[f"{name}_{case}"])
            for name in "h y logits tau lcl lcl_dh lcl_dlogits scl scl_dh".split()
        }
    h, logits = known["h"].requires_grad_(), known["logits"].requires_grad_()
    lcl = loss_of("released", h, known["y"], logits, known["tau"].item())
    scl = scl_loss(h, known["y"], known["tau"].item())
    torch.testing.assert_close(
        [lcl, *gradients(lcl, (h, logits)), scl, *gradients(scl, (h,))],
        [known[name] for name in ("lcl", "lcl_dh", "lcl_dlogits", "scl", "scl_dh")],
        rtol=0,
        atol=1e-10,
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("form", SUPERVISED)
def test_equations_by_loops(form, reduction, seed):
    h, y, logits = batch(seed=seed)
    arguments = (h, y, logits, (0.3, 0.07)[seed], reduction)
    agree(loss_of(form, *arguments), by_loops(form, *arguments), (h, logits))


def test_equation_1_is_scl_of_pairs():
    h, _, logits = batch([0] * 8)
    pairs = torch.minimum(VIEWS, torch.arange(8))
    agree(scl_loss(h, pairs, 0.07), by_loops("self", h, VIEWS, logits, 0.07), (h,))


@pytest.mark.parametrize("form", SUPERVISED)
def test_gradcheck(form):
    h, y, logits = batch()
    inputs = (h, logits) if form in FORMS else (h,)
    assert torch.autograd.gradcheck(lambda h, logits=None: loss_of(form, h, y, logits), inputs)


def test_equal_weights_give_scl():
    h, y, logits = batch(classes=7)
    scl = scl_loss(h, y)
    agree(loss_of("printed", h, y, torch.full_like(logits, 1.9)), scl, (h,))
    agree(loss_of("released", h, y, torch.full_like(logits, 1.9)), (scl - math.log(7)) / 7, (h,))


def test_released_gradient_is_the_printed_one_times_the_weight_of_the_own_class():
    h, y, logits = batch()
    own, sure = one_hot(y, 6).bool(), 0.37
    log_w = logits.detach().masked_fill(own, -math.inf).log_softmax(1) + math.log(1 - sure)
    log_w = log_w.masked_fill(own, math.log(sure))
    agree(
        lcl_loss(h, y, log_w), sure * (lcl_loss(h, y, log_w, form="printed") + math.log(sure)), (h,)
    )


@pytest.mark.parametrize("texts", [1, 4, 7])
@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_collapsed_features(texts, tau):
    h = batch()[0][:1].repeat(2 * texts, 1)
    expected = torch.tensor(math.log(2 * texts - 1), dtype=torch.float64)
    torch.testing.assert_close(scl_loss(h, torch.arange(texts).repeat(2), tau), expected)
    torch.testing.assert_close(scl_loss(h, torch.arange(texts).repeat(2) // 2, tau), expected)


@pytest.mark.parametrize("form", SUPERVISED)
@pytest.mark.parametrize(
    "order",
    [[7, 2, 9, 0, 4, 1, 8, 3, 6, 5], [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]],
    ids=["shuffled", "views swapped"],
)
def test_order_of_rows_does_not_matter(form, order):
    h, y, logits = batch([0, 3, 3, 1, 5] * 2)
    agree(
        loss_of(form, h[order], y[order], logits[order]), loss_of(form, h, y, logits), (h, logits)
    )


@pytest.mark.parametrize("positives", [1, 2, 5])
def test_released_reaches_its_floor(positives):
    """With u = w |P|, no negatives and Jensen give: loss >= u log u / |P|, least at u = 1/e."""
    h = batch()[0][:1].repeat(positives + 1, 1)
    w = 1 / (math.e * positives)
    log_w = torch.tensor([[1 - w, w]], dtype=torch.float64).log().repeat(positives + 1, 1)
    found = lcl_loss(h, torch.ones(positives + 1, dtype=torch.long), log_w)
    torch.testing.assert_close(
        found, torch.full_like(found, -1 / (math.e * positives)), rtol=1e-12, atol=0
    )


def test_released_can_be_negative_and_stays_above_its_floor():
    sizes = [1, 3, 3, 1, 1, 3, 3, 1]  # |P_i| of the labels below
    floor = -sum(1 / size for size in sizes) / (math.e * len(sizes))
    found = [
        loss_of("released", *batch([0, 3, 3, 1, 0, 3, 3, 1], seed=seed), tau).item()
        for seed in range(60)
        for tau in (0.3, 1.0, 5.0)
    ]
    assert floor < min(found) < 0 < max(found)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "texts",
    [[30, 4, 9, 11, 0, 7, 19, 23, 8], [30, 4, 4, 11, 0, 7, 4, 23, 30]],
    ids=["one text a class", "uneven"],
)
def test_negatives_vanish_once_the_weighting_network_is_sure(texts, form):
    """What remains is SCL inside each class: zero only where the view is the only positive."""
    h, y, logits = batch(texts * 2, classes=32)
    log_w = torch.full_like(logits, 0.001 / 31).scatter(1, y[:, None], 0.999).log()
    inside = sum(
        (y == label).sum() / len(y) * scl_loss(h[y == label], y[y == label]) for label in y.unique()
    )
    found, remaining, full = (
        gradients(loss, (h,))[0]
        for loss in (lcl_loss(h, y, log_w, form=form), inside, scl_loss(h, y))
    )
    assert (found - remaining).norm() < 0.05 * full.norm()
    assert (found.norm() < 0.1 * full.norm()) == (len(set(texts)) == len(texts))


@pytest.mark.parametrize("form", FORMS)
def test_gradient_reaches_the_weights_unless_detached(form):
    h, y, logits = batch()
    live = loss_of(form, h, y, logits)
    assert gradients(live, (logits,))[0].norm() > 0.01
    for detached in (
        loss_of(form, h, y, logits.detach()),
        loss_of(form, h, y, logits, detach_weights=True),
    ):
        assert torch.autograd.grad(detached, logits, allow_unused=True, retain_graph=True) == (
            None,
        )
        agree(detached, live, (h,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("tau", [0.3, 0.01])
@pytest.mark.parametrize("form", SUPERVISED)
def test_half_precision_is_computed_in_float32(form, tau, dtype):
    h, y, logits = batch(dtype=dtype)
    logits = logits.detach().to(dtype).requires_grad_()
    found = loss_of(form, h, y, logits, tau)
    # Not validated: rounded rows are further from norm 1 than float32 rows may be.
    expected = (
        lcl_loss(h.float(), y, logits.log_softmax(1).float(), tau, form, validate=False)
        if form in FORMS
        else scl_loss(h.float(), y, tau, validate=False)
    )
    assert found.isfinite() and found.dtype == torch.float32
    agree(found, expected, (h, logits), rtol=1e-6, gradient_rtol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", SUPERVISED)
def test_autocast_changes_nothing(form, dtype):
    h, y, logits = batch(dtype=torch.float32)
    logits = logits.detach().float().requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        inside = loss_of(form, h, y, logits)
    assert inside.dtype == torch.float32
    agree(inside, loss_of(form, h, y, logits), (h, logits), rtol=1e-6, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_mass_on_an_absent_class_does_not_underflow(form):
    """exp(-200) is no float32: weights outside log space give log 0 and NaN here."""
    h, y, logits = batch(dtype=torch.float32)
    logits = (logits.detach().float() + 200 * torch.eye(6)[4]).requires_grad_()
    found = loss_of(form, h, y, logits)
    assert found > 1 if form == "printed" else found == 0
    agree(
        found.double(),
        by_loops(form, h.double(), y, logits.double()),
        (h, logits),
        rtol=1e-4,
        atol=1e-6,
    )


def without(logits, *zeros):
    """The logits with -inf at the given rows and classes, where the weight is then exactly 0."""
    rows, columns = torch.tensor(zeros).T
    masked = logits.detach().index_put((rows, columns), torch.tensor(-math.inf, dtype=logits.dtype))
    return masked.requires_grad_()


# Rows and classes of weight 0. Anchor 1 is of class 3.
ZEROS = {
    "absent": [(1, 2), (5, 4)],
    "a negative": [(1, 0)],
    "all negatives": [(1, 0), (1, 1), (1, 5)],
    "own class of a lone anchor": [(6, 5)],
}


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("zeros", ZEROS.values(), ids=ZEROS)
@pytest.mark.parametrize("form", FORMS)
def test_comparisons_of_weight_0_drop_out(form, zeros, validate):
    h, y, logits = batch()
    logits = without(logits, *zeros)
    if validate and form == "printed" and zeros == ZEROS["own class of a lone anchor"]:
        return  # an error, as the next tests show
    found = loss_of(form, h, y, logits, validate=validate)
    agree(found, by_loops(form, h, y, logits), (h, logits))
    assert found.isfinite() and all(x.isfinite().all() for x in gradients(found, (h, logits)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("validate", [True, False])
def test_own_class_of_weight_0_gives_a_released_loss_of_0(validate, dtype):
    """w (loss + log w) goes to 0 with w. The authors' code has 0 too, if other weights are left."""
    h, y, logits = batch(dtype=dtype)
    some = without(logits.to(dtype), (1, 3), (4, 0), (4, 1))
    found = loss_of("released", h, y, some, validate=validate, reduction="sum")
    slopes = gradients(found, (h, some))
    assert found.isfinite() and all(x.isfinite().all() for x in slopes)
    tolerances = {torch.float64: {}, torch.float32: {"rtol": 1e-5, "gradient_rtol": 1e-3}}
    if dtype in tolerances:
        expected = by_loops("released", h.double(), y, some.double(), reduction="sum").to(dtype)
        agree(found, expected, (h, some), **tolerances[dtype])
    nothing = without(logits.to(dtype), *itertools.product(range(9), (0, 1, 3, 5)))
    found = loss_of("released", h, y, nothing, validate=validate)
    assert found == 0 and all((x == 0).all() for x in gradients(found, (h, nothing)))


@pytest.mark.parametrize("zeros", [[(1, 3)], [(6, 5)], [(1, c) for c in (0, 1, 3, 5)]], ids=str)
def test_own_class_of_weight_0_is_an_error_in_the_printed_form(zeros):
    h, y, logits = batch()
    with pytest.raises(ValueError, match="^log_weights: expected .* above 0; found 0"):
        loss_of("printed", h, y, without(logits, *zeros))


PAIRS = [2, 0, 1, 5] * 2
EDGES = {
    "four pairs": (PAIRS, lambda h: h, 0.3, None),
    "one anchor without positive": ([2, 0, 1, 0, 2, 1, 4], lambda h: h, 0.3, None),
    "no positives": ([3, 0, 5, 1], lambda h: h, 0.3, 0.0),
    "all one class": ([2] * 7, lambda h: h, 0.3, None),
    "identical features": (PAIRS, lambda h: h[:1].repeat(8, 1), 0.3, math.log(7)),
    "one row": ([3], lambda h: h, 0.3, 0.0),
    "NaN row": (
        PAIRS,
        lambda h: h.index_fill(0, torch.tensor(5), math.nan),
        0.3,
        "^features: .*norms from nan to nan",
    ),
    "zero row": (
        PAIRS,
        lambda h: h.index_fill(0, torch.tensor(2), 0),
        0.3,
        "^features: .*norms from 0 to 1",
    ),
    "not normalised": (PAIRS, lambda h: 30 * h, 0.3, "^features: .*norms from 30 to 30"),
    "float16": (PAIRS, torch.Tensor.half, 0.3, None),
    "float16, low temperature": (PAIRS, torch.Tensor.half, 0.03, None),
    "bfloat16": (PAIRS, torch.Tensor.bfloat16, 0.3, None),
    "bfloat16, low temperature": (PAIRS, torch.Tensor.bfloat16, 0.03, None),
}


@pytest.mark.parametrize("form", SUPERVISED)
@pytest.mark.parametrize(("labels", "change", "tau", "known"), EDGES.values(), ids=EDGES)
def test_edge_cases(labels, change, tau, known, form):
    """Where others give NaN, infinity, or an unlike mean. `known`: the value or the error."""
    original, y, logits = batch(labels)
    h = change(original)
    if isinstance(known, str):
        with pytest.raises(ValueError, match=known):
            loss_of(form, h, y, logits, tau)
        return
    found = loss_of(form, h, y, logits, tau)
    assert found.requires_grad and found.isfinite()
    dtype, tolerances = torch.float64, {}
    if h.dtype != dtype:
        dtype, tolerances = torch.float32, {"rtol": 1e-4, "atol": 1e-6, "gradient_rtol": 1e-2}
    agree(
        found,
        by_loops(form, h.double(), y, logits, tau).to(dtype),
        (original, logits),
        **tolerances,
    )
    if known is not None and (form == "scl" or known == 0):
        assert found.item() == pytest.approx(known, rel=1e-12, abs=0)


H, Y, LOGITS = (x.detach() for x in batch())
W = LOGITS.log_softmax(1)
FAULTS = {
    "unknown form": ("form", "paper"),
    "unknown reduction": ("reduction", "none"),
    "zero temperature": ("temperature", 0),
    "negative temperature": ("temperature", -0.3),
    "NaN temperature": ("temperature", math.nan),
    "a label missing": ("labels", Y[:-1]),
    "labels in a column": ("labels", Y[:, None]),
    "float labels": ("labels", Y.double()),
    "label -1": ("labels", Y.masked_fill(Y == 5, -1)),
    "label -100": ("labels", Y.masked_fill(Y == 5, -100)),
    "label C": ("labels", Y.masked_fill(Y == 5, 6)),
    "a row of weights missing": ("log_weights", W[:-1]),
    "weights of one class": ("log_weights", W[:, 0]),
    "integer weights": ("log_weights", 900 * (one_hot(Y, 6) - 1)),
    "probabilities that sum to less than 1": ("log_weights", W - 0.1),
    "raw logits": ("log_weights", LOGITS),
    "probabilities": ("log_weights", W.exp()),
    "an infinite weight": ("log_weights", -W / 0),
    "a NaN weight": ("log_weights", W.index_fill(0, Y[1], math.nan)),
    "one-dimensional features": ("features", H[0]),
    "three-dimensional features": ("features", H[None]),
    "integer features": ("features", torch.eye(9).long()),
    "no features": ("features", H[:0]),
}


@pytest.mark.parametrize(("argument", "value"), FAULTS.values(), ids=FAULTS)
def test_lcl_names_the_argument_at_fault(argument, value):
    with pytest.raises(ValueError, match=f"^{argument}: expected"):
        lcl_loss(**{"features": H, "labels": Y, "log_weights": W, argument: value})


@pytest.mark.parametrize("labels", [Y[1:], Y.float()])
def test_scl_names_the_argument_at_fault(labels):
    with pytest.raises(ValueError, match="^labels: expected"):
        scl_loss(H, labels)


def test_validate_false_skips_values_but_not_shapes():
    h = 1.5 * batch()[0]
    agree(lcl_loss(h, Y, W, validate=False), by_loops("released", h, Y, LOGITS), (h,))
    assert lcl_loss(H, Y, W.exp(), validate=False) != lcl_loss(H, Y, W)
    for argument, value in (
        ("labels", Y[:-1]),
        ("labels", Y.double()),
        ("log_weights", W[:-1]),
        ("features", H[0]),
    ):
        with pytest.raises(ValueError, match=f"^{argument}: expected"):
            lcl_loss(
                **{"features": H, "labels": Y, "log_weights": W, argument: value}, validate=False
            )


# Labels of two processes. Lone anchors (7, 1, 5) are in the first only; its 0 finds its positives
# in the second only.
LABELS = [[0, 3, 7, 1, 5], [3, 0, 3, 3, 0]]
NEGATIVES = [(1, 0), (0, 3)], [(1, 3), (4, 5)]  # rows and classes of weight 0, in each process
GATHERED = list(itertools.product(SUPERVISED, ("mean", "sum")))


class Networks(torch.nn.Module):
    """The encoder and the weighting network in small."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.weighting = (
            torch.nn.Linear(5, size, dtype=torch.float64) for size in (4, 8)
        )

    def forward(self, x):
        return normalize(self.encoder(x), dim=1), self.weighting(x)


def trained_by(networks, x, y, form, reduction, **options):
    """The loss and what it gives every parameter."""
    networks.zero_grad()
    h, logits = networks(x)
    loss = loss_of(form, h, y, logits, reduction=reduction, **options)
    loss = loss + 0 * logits.sum()  # SCL leaves Psi out, and DDP waits for all parameters
    loss.backward()
    return [loss.item(), *torch.cat([p.grad.flatten() for p in networks.parameters()]).tolist()]


def one_of_two(rank, meeting):
    """A process's errors, and its results for the cases of GATHERED."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", meeting, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    x = batch(sum(LABELS, []))[0].detach().chunk(2)[rank]
    y = torch.tensor(LABELS[rank]).repeat_interleave(2)[::2]  # not contiguous, as a table's column
    logits = batch([0] * 5, classes=8, seed=rank)[2]
    with pytest.raises(ValueError) as uneven:
        scl_loss(x[rank:], y[rank:], gather=True)
    zeros = loss_of("printed", x, y, without(logits, *NEGATIVES[rank]), gather=True).item()
    networks = DistributedDataParallel(Networks())
    found = [trained_by(networks, x, y, *case, gather=True) for case in GATHERED]
    distributed.destroy_process_group()
    return str(uneven.value), zeros, found


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    meeting = (tmp_path_factory.mktemp("gather") / "meeting").as_uri()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        other = pool.submit(one_of_two, 1, meeting)
        return one_of_two(0, meeting), other.result()


@pytest.mark.parametrize("case", GATHERED, ids=str)
def test_two_processes_are_one_with_all_rows(case, two_processes):
    y = torch.tensor(sum(LABELS, []))
    expected = trained_by(Networks(), batch(y.tolist())[0].detach(), y, *case)
    for _, _, found in two_processes:
        assert found[GATHERED.index(case)] == pytest.approx(expected, rel=1e-10, abs=1e-14)


def test_comparisons_of_weight_0_between_processes_drop_out(two_processes):
    h, y, _ = batch(sum(LABELS, []))
    logits = [
        without(batch([0] * 5, classes=8, seed=rank)[2], *NEGATIVES[rank]) for rank in range(2)
    ]
    expected = loss_of("printed", h, y, torch.cat(logits))
    assert [zeros for _, zeros, _ in two_processes] == pytest.approx([expected.item()] * 2)


def test_two_processes_name_the_argument_at_fault(two_processes):
    for error, _, _ in two_processes:
        assert error == "features: expected as many rows in all processes; found [5, 4]"


@pytest.mark.parametrize("form", SUPERVISED)
def test_a_single_process_has_nothing_to_gather(form):
    h, y, logits = batch()
    agree(
        loss_of(form, h, y, logits, gather=True),
        loss_of(form, h, y, logits),
        (h, logits),
        rtol=0,
        atol=0,
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8], ids=str)
def test_integer_labels_of_any_width(dtype):
    for form in SUPERVISED:
        assert loss_of(form, H, Y.to(dtype), LOGITS) == loss_of(form, H, Y, LOGITS)


@pytest.mark.parametrize(
    ("form", "options"),
    [*((form, {}) for form in SUPERVISED), *((form, {"detach_weights": True}) for form in FORMS)],
)
def test_compiles_without_a_graph_break(form, options):
    h, y, logits = batch()
    compiled = torch.compile(
        lambda h, logits: loss_of(form, h, y, logits, **options), backend="eager", fullgraph=True
    )
    agree(compiled(h, logits), loss_of(form, h, y, logits, **options), (h, logits))


def test_joint_loss():
    parts = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (1.7, 2.9, -0.05)]
    found = joint_loss(*parts, alpha=0.3)
    assert found.item() == pytest.approx(0.3 * 4.6 - 0.7 * 0.05, rel=1e-12)
    assert [x.item() for x in gradients(found, parts)] == pytest.approx([0.3, 0.3, 0.7])
    assert joint_loss(parts[0], 0.0, parts[2], alpha=0.3).item() == pytest.approx(
        0.51 - 0.035, rel=1e-12
    )
    assert [joint_loss(*parts, alpha=alpha).item() for alpha in (0, 1)] == pytest.approx(
        [-0.05, 4.6]
    )


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_alpha_out_of_range(alpha):
    with pytest.raises(ValueError, match="^alpha: expected"):
        joint_loss(torch.tensor(1.7), 2.9, torch.tensor(0.4), alpha)
