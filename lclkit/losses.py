"""The losses of the paper: Eqs. 1-4 and 6.

One idea carries them: each is a cross-entropy whose classes are the other rows of the batch, spread
evenly over the anchor's positives. The label-aware contrastive loss (LCL) is the supervised one
(SCL) with ``log_weights[:, labels]``, that is log w_{i,y_k}, added to the similarity logits.
`_anchors` shows it in one screen. All is done in log space, so that an underflow does no harm, and
in float32 or better, also under autocast. Memory grows with N^2.
"""

import warnings

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather
from torch.nn.functional import cross_entropy

FORMS = ("released", "printed")
REDUCTIONS = ("mean", "sum")


def self_loss(
    features: Tensor, view_of: Tensor, temperature: float = 0.3, *, reduction: str = "mean"
) -> Tensor:
    """Self-supervised contrastive loss, Eq. 1 (SimCLR's): the only positive of row i is view g(i).

    features: ``(N, d)`` unit-norm rows. view_of: ``(N,)`` integers, g(i). temperature: tau > 0.
    reduction: "mean" over rows, or "sum" as Eq. 1 is printed. Raises ValueError as `lcl_loss` does.
    """
    return _contrast(features, view_of, "view_of", temperature, reduction)


def scl_loss(
    features: Tensor,
    labels: Tensor,
    temperature: float = 0.3,
    *,
    reduction: str = "mean",
    gather: bool = False,
    validate: bool = True,
) -> Tensor:
    """Supervised contrastive loss, Eq. 2 (Khosla et al. 2020): all rows of a class are positives.

    Arguments and errors as in `lcl_loss`, of which this is the case of equal weights: with
    w_{i,c} = 1/C the printed form of LCL equals SCL, and the released form equals (SCL - ln C) / C.
    """
    return _contrast(features, labels, "labels", temperature, reduction, gather, validate)


def lcl_loss(
    features: Tensor,
    labels: Tensor,
    log_weights: Tensor,
    temperature: float = 0.3,
    form: str = "released",
    reduction: str = "mean",
    *,
    detach_weights: bool = False,
    gather: bool = False,
    validate: bool = True,
) -> Tensor:
    """Label-aware contrastive loss, Eqs. 3 and 4: a comparison of i and k is weighted by w_{i,y_k}.

    features: ``(N, d)`` unit-norm rows; N = 2K: K texts, then their K augmented views.
    labels: ``(N,)`` integers in ``[0, C)``. temperature: tau > 0.
    log_weights: ``(N, C)`` log-probabilities, ``logits.log_softmax(1)`` (Eq. 5). A comparison of
        weight 0 drops out; an own class of weight 0 makes the released loss of the anchor 0, and
        the printed one infinite, which is an error (inf with validate=False).
    form: "released" has the positive's weight outside the log, as the authors' code does and their
        results follow; "printed" has it inside, as Eq. 3 is printed. Released can be negative.
    reduction: "mean" over the anchors that have a positive (the authors' code), or "sum" (Eq. 4).
        Other anchors are left out; without any, the loss is zero and so is its gradient.
    detach_weights: let no gradient flow into `log_weights`; it does in the authors' code.
    gather: take the rows of all processes of torch.distributed, if any; each has N. All processes
        get the loss of one with all rows, and after DDP's averaging its gradients.
    validate: check values too, which waits for the device; never while torch.compile traces.

    Raises ValueError that names the argument, what was expected and what was found.
    """
    if form not in FORMS:
        raise ValueError(f"form: expected one of {FORMS}; found {form!r}")
    if detach_weights:
        log_weights = log_weights.detach()
    settings = (temperature, reduction, gather, validate, log_weights, form)
    return _contrast(features, labels, "labels", *settings)


def joint_loss(
    ce_encoder: Tensor, ce_weighting: Tensor | float, contrastive: Tensor, alpha: float
) -> Tensor:
    """Joint objective, Eq. 6: alpha (L_w + L_e) + (1 - alpha) L_LCL.

    ce_encoder: L_e. ce_weighting: L_w, or 0 without a weighting network (SCL). contrastive: L_LCL
    or L_SCL. alpha: in [0, 1] (Gunel et al. put theirs on the other term); else ValueError.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a number in [0, 1]; found {alpha}")
    return alpha * (ce_weighting + ce_encoder) + (1 - alpha) * contrastive


def _anchors(
    h: Tensor, log_w: Tensor | None, wanted: Tensor, offered: Tensor, temperature: float, form: str
) -> tuple[Tensor, Tensor]:
    """Eqs. 1-4 in one place: the loss of each anchor, and which anchors have a positive.

    h: ``(N, d)``. log_w: ``(N, C)`` or None. wanted, offered: ``(N,)``; k is a positive of i where
    offered_k = wanted_i and k is not i.
    """
    positives = (wanted[:, None] == offered).fill_diagonal_(False)
    count = positives.sum(1)  # |P_i|
    valid = count > 0

    logits = h @ h.T / temperature  # h_i . h_k / tau
    if log_w is not None:
        logits = logits + log_w.index_select(1, offered)  # + log w_{i,y_k}
    logits.fill_diagonal_(torch.finfo(h.dtype).min)  # k in I without i
    targets = positives.to(h.dtype) / count.clamp(min=1)[:, None]  # 1 / |P_i| on every positive
    loss = cross_entropy(logits, targets, reduction="none")
    if form == "released":
        own = log_w.gather(1, wanted[:, None]).squeeze(1)  # log w_{i,y_i}: out of the log,
        loss = own.exp() * (loss + own)  # and w_{i,y_i} before it
    return loss.where(valid, 0), valid


def _contrast(
    features: Tensor,
    wanted: Tensor,
    name: str,
    temperature: float,
    reduction: str,
    gather: bool = False,
    validate: bool = True,
    log_weights: Tensor | None = None,
    form: str = "printed",
) -> Tensor:
    """`_anchors`, with checks before it and the reduction after it; `name` is that of `wanted`."""
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number above 0; found {temperature}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction: expected one of {REDUCTIONS}; found {reduction!r}")
    validate = validate and not torch.compiler.is_compiling()
    with torch.autocast(features.device.type, enabled=False):
        _check(features, wanted, name, log_weights, validate)
        h = features.to(torch.promote_types(features.dtype, torch.float32))
        wanted = wanted.long()
        lowest = torch.finfo(h.dtype).min / 4  # log 0, but finite: so 0 * log 0 is 0
        log_w = None if log_weights is None else log_weights.to(h.dtype).clamp(min=lowest)
        if gather and distributed.is_available() and distributed.is_initialized():
            h, wanted = _all_rows(h, validate), _all_rows(wanted)
            log_w = None if log_w is None else _all_rows(log_w)
        offered = torch.arange(len(h), device=h.device) if name == "view_of" else wanted
        losses, valid = _anchors(h, log_w, wanted, offered, temperature, form)
        if log_w is not None and form == "printed":
            infinite = valid & (log_w.gather(1, wanted[:, None]).squeeze(1) == lowest)
            losses = losses.masked_fill(infinite, torch.inf)
            if validate and infinite.any():
                raise ValueError("log_weights: expected own classes of weight above 0; found 0")
        if name == "view_of" and validate and not valid.all():
            raise ValueError("view_of: expected another row of the batch for each; found no such")
        total = losses.sum()
        return total if reduction == "sum" else total / valid.sum().clamp(min=1)


def _all_rows(rows: Tensor, validate: bool = False) -> Tensor:
    """The rows of all processes, one process after the other; gradients flow back to each."""
    with warnings.catch_warnings():  # deprecated in torch 2.13, which has no other in public
        warnings.simplefilter("ignore", FutureWarning)
        if validate:
            sizes = torch.cat(all_gather(torch.tensor([len(rows)], device=rows.device))).tolist()
            if len(set(sizes)) > 1:
                raise ValueError(f"features: expected as many rows in all processes; found {sizes}")
        return torch.cat(all_gather(rows))


@torch.no_grad()
def _check(features: Tensor, labels: Tensor, name: str, log_w: Tensor | None, values: bool) -> None:
    """Shapes and dtypes and, if `values`, the values."""
    n = len(features)
    if features.ndim != 2 or n == 0 or not features.is_floating_point():
        raise ValueError(f"features: expected floating (N, d), N > 0; found {_shown(features)}")
    if labels.shape != (n,) or labels.is_floating_point():
        raise ValueError(f"{name}: expected ({n},) integers; found {_shown(labels)}")
    if log_w is not None and (log_w.ndim != 2 or len(log_w) != n or not log_w.is_floating_point()):
        raise ValueError(f"log_weights: expected floating ({n}, C); found {_shown(log_w)}")
    if not values:
        return
    limit = torch.inf if log_w is None else log_w.shape[1]
    low, high = labels.long().aminmax()
    if low < 0 or high >= limit:
        raise ValueError(f"{name}: expected integers in [0, {limit}); found {low} to {high}")
    _check_ones(features.norm(dim=1), "features: expected normalised rows; found norm")
    if log_w is not None:
        _check_ones(log_w.exp().sum(1), "log_weights: expected log-probabilities; found sum")


def _check_ones(values: Tensor, expected: str) -> None:
    """All values are 1, as far as their dtype can tell."""
    slack = 5e-2 if values.dtype.itemsize == 2 else 1e-3
    wrong = ~((values - 1).abs() <= slack)  # true for NaN too
    if wrong.any():
        row = int(wrong.int().argmax())
        raise ValueError(f"{expected} {values[row]:.4g} in row {row}")


def _shown(x: Tensor) -> str:
    return f"{tuple(x.shape)} {x.dtype}"
