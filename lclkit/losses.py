"""The losses of the paper: Eqs. 1-4 and 6.

One idea carries both supervised losses: the label-aware contrastive loss (LCL) is the supervised contrastive loss
(SCL) with ``log_weights[:, labels]``, that is log w_{i,y_k}, added to the similarity logits. `_contrast` shows it in
one screen. All is done in log space, so that an underflow does no harm, and in float32 or better, also under autocast.
"""

import torch
from torch import Tensor

FORMS = ("released", "printed")
REDUCTIONS = ("mean", "sum")


def self_loss(features: Tensor, view_of: Tensor, temperature: float = 0.3, *, reduction: str = "mean",
              validate: bool = True) -> Tensor:
    """Self-supervised contrastive loss, Eq. 1: the only positive of row i is its other view, g(i).

    features: ``(N, d)`` unit-norm rows. view_of: ``(N,)`` integers, g(i). temperature: tau > 0.
    reduction: "mean" over rows, or "sum" as Eq. 1 is printed. Raises ValueError naming the argument at fault.
    """
    _check(features, view_of, temperature, reduction, validate, name="view_of", below=len(features))
    positives = torch.zeros(len(features), len(features), dtype=torch.bool, device=features.device)
    return _contrast(features, positives.scatter(1, view_of.long()[:, None], True), temperature, reduction)


def scl_loss(features: Tensor, labels: Tensor, temperature: float = 0.3, *, reduction: str = "mean",
             validate: bool = True) -> Tensor:
    """Supervised contrastive loss, Eq. 2 (Khosla et al. 2020): all other rows of the same class are positives.

    Arguments and errors as in `lcl_loss`, of which this is the case of equal weights: with w_{i,c} = 1/C the printed
    form of LCL equals SCL, and the released form equals (SCL - ln C) / C.
    """
    _check(features, labels, temperature, reduction, validate)
    return _contrast(features, labels[:, None] == labels, temperature, reduction)


def lcl_loss(features: Tensor, labels: Tensor, log_weights: Tensor, temperature: float = 0.3, form: str = "released",
             reduction: str = "mean", *, validate: bool = True) -> Tensor:
    """Label-aware contrastive loss, Eqs. 3 and 4: every comparison of i and k is weighted by w_{i,y_k}.

    features: ``(N, d)`` unit-norm rows; N = 2K: K texts, then their K augmented views.
    labels: ``(N,)`` integers in ``[0, C)``.
    log_weights: ``(N, C)`` log-probabilities of the weighting network, ``logits.log_softmax(1)``. Gradient flows into
        them, as in the authors' code; pass ``log_weights.detach()`` to stop it.
    temperature: tau > 0.
    form: "released" has the positive's weight outside the log, as the authors' code does and their results follow;
        "printed" has it inside, as Eq. 3 is printed.
    reduction: "mean" over the anchors that have a positive (the authors' code), or "sum" (Eq. 4). An anchor without
        a positive is left out; where none has one, the loss is zero and so is its gradient.
    validate: check values too (finite, unit norm, in range), which waits for the device. Shapes and dtypes are always
        checked; values never while torch.compile traces.

    The released form can be negative. Relations: `scl_loss` has equal weights, `self_loss` a single positive.
    Raises ValueError naming the argument at fault.
    """
    if form not in FORMS:
        raise ValueError(f"form: expected one of {FORMS}, found {form!r}")
    _check(features, labels, temperature, reduction, validate, log_weights=log_weights)
    return _contrast(features, labels[:, None] == labels, temperature, reduction, log_weights, labels.long(), form)


def joint_loss(ce_encoder: Tensor, ce_weighting: Tensor | float, contrastive: Tensor, alpha: float) -> Tensor:
    """Joint objective, Eq. 6: alpha (L_w + L_e) + (1 - alpha) L_LCL.

    ce_encoder: L_e. ce_weighting: L_w, or 0 without a weighting network (SCL). contrastive: L_LCL or L_SCL.
    alpha: weight of cross-entropy, in [0, 1] (Gunel et al. put theirs on the other term); else ValueError.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a number in [0, 1], found {alpha}")
    return alpha * (ce_weighting + ce_encoder) + (1 - alpha) * contrastive


def _contrast(features, positives, temperature, reduction, log_weights=None, labels=None, form="printed"):
    """Eqs. 1-4 in one place. positives: ``(N, N)``, the set P of every anchor (a row); i itself is taken out here."""
    with torch.autocast(features.device.type, enabled=False):
        h = features.to(torch.promote_types(features.dtype, torch.float32))     # at least float32
        itself = torch.eye(len(h), dtype=torch.bool, device=h.device)
        positives = positives & ~itself
        count = positives.sum(1)                                                # |P_i|

        similarity = h @ h.T / temperature                                      # h_i . h_k / tau
        weighted = similarity
        if log_weights is not None:
            log_w = log_weights.to(h.dtype)
            weighted = similarity + log_w[:, labels]                            # + log w_{i,y_k}

        log_denominator = weighted.masked_fill(itself, torch.finfo(h.dtype).min).logsumexp(1)   # k in I without i
        log_numerator = similarity if form == "released" else weighted
        loss = log_denominator - log_numerator.where(positives, 0).sum(1) / count.clamp(min=1)
        if form == "released":
            loss = loss * log_w.gather(1, labels[:, None]).squeeze(1).exp()     # w_{i,y_i} outside the log
        loss = loss.where(count > 0, 0).sum()                                   # without lone anchors
        return loss if reduction == "sum" else loss / (count > 0).sum().clamp(min=1)


def _check(features, integers, temperature, reduction, validate, *, name="labels", below=None, log_weights=None):
    """ValueErrors for wrong input; `integers` are labels, or the views of Eq. 1, as `name` says."""
    n = len(features) if isinstance(features, Tensor) and features.ndim == 2 and features.is_floating_point() else 0
    _need(n > 0, "features: expected a floating (N, d) tensor with at least one row", features)
    _need(isinstance(integers, Tensor) and integers.shape == (n,) and not integers.is_floating_point()
          and integers.dtype != torch.bool, f"{name}: expected ({n},) integers, one for each row of features", integers)
    _need(temperature > 0, "temperature: expected a number above 0", temperature)
    _need(reduction in REDUCTIONS, f"reduction: expected one of {REDUCTIONS}", reduction)
    if log_weights is not None:
        _need(isinstance(log_weights, Tensor) and log_weights.ndim == 2 and len(log_weights) == n
              and log_weights.is_floating_point(), f"log_weights: expected a floating ({n}, C) tensor", log_weights)
        below = log_weights.shape[1]
    if not validate or torch.compiler.is_compiling():
        return
    lowest, highest = int(integers.min()), int(integers.max())
    expected = f"{name}: expected integers from 0" + ("" if below is None else f" to {below - 1}")
    _need(lowest >= 0, expected, lowest)
    _need(below is None or highest < below, expected, highest)
    _need(name == "labels" or not (integers == torch.arange(n, device=integers.device)).any(),
          "view_of: expected another row as the view of each row", "a row as its own")
    half = (torch.float16, torch.bfloat16)
    norms = features.detach().float().norm(dim=1)
    wrong = ~((norms - 1).abs() <= (1e-2 if features.dtype in half else 1e-3))      # true for NaN too
    row = int(wrong.int().argmax())
    _need(not wrong.any(), "features: expected finite rows of norm 1, as torch.nn.functional.normalize gives them",
          f"norm {norms[row]:.4g} in row {row}")
    if log_weights is not None:
        log_w = log_weights.detach().float()
        mass = log_w.logsumexp(1).exp()
        wrong = ~((mass - 1).abs() <= (5e-2 if log_weights.dtype in half else 1e-3))
        row = int(wrong.int().argmax())
        _need(not wrong.any(), "log_weights: expected log-probabilities, as logits.log_softmax(1) gives them",
              f"probabilities that sum to {mass[row]:.4g} in row {row}")
        _need(not log_w[:, integers.long()].isneginf().any(), "log_weights: expected a weight above 0 for every class "
              "in the batch", "-inf")


def _need(fulfilled: bool, expected: str, found) -> None:
    if not fulfilled:
        shown = found if isinstance(found, (str, int, float)) else type(found).__name__
        raise ValueError(f"{expected}; found {tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else
                         f"{expected}; found {shown}")
