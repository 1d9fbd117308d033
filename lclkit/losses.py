"""The losses of the paper: Eqs. 2-4 and 6; Eq. 1 is a case of Eq. 2.

One idea carries them: each is a cross-entropy whose classes are the other rows of the batch, spread
evenly over the anchor's positives. The label-aware contrastive loss (LCL) is the supervised one
(SCL) with log w_{i,y_k} added to the similarity logits: see `_anchors`.
"""

import warnings

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather
from torch.nn.functional import cross_entropy

FORMS = ("released", "printed")


def scl_loss(features: Tensor, labels: Tensor, temperature: float = 0.3, **options) -> Tensor:
    """Supervised contrastive loss, Eq. 2 (Khosla et al. 2020): `lcl_loss` without weights.

    With equal weights 1 / C the printed LCL equals SCL, and the released one (SCL - ln C) / C.
    Where each text and its view are a class of their own, it is SimCLR's loss, Eq. 1.
    options: reduction, gather, validate, as in `lcl_loss`.
    """
    return lcl_loss(features, labels, None, temperature, "printed", **options)


def lcl_loss(
    features: Tensor,
    labels: Tensor,
    log_weights: Tensor | None,
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
    log_weights: ``(N, C)`` log-probabilities, ``logits.log_softmax(1)`` (Eq. 5); None gives SCL.
        Weight 0 of a negative drops it; of the own class it makes the released loss of the anchor
        0, and the printed one infinite, which is an error.
    form: "released" has the positive's weight outside the log, as the authors' code does and their
        results follow; "printed" has it inside, as Eq. 3 is printed. Released can be negative.
    reduction: "mean" over the anchors that have a positive (the authors' code), or "sum" (Eq. 4).
        Other anchors are left out; without any, the loss is zero and so is its gradient.
    detach_weights: let no gradient flow into `log_weights`; it does in the authors' code.
    gather: take the rows of all processes of torch.distributed, if any; each has N. All processes
        get the loss of one with all rows, and after DDP's averaging its gradients.
    validate: check values too, which waits for the device; never while torch.compile traces.
        A ValueError names the argument, what was expected and what was found.
    """
    if form not in FORMS:
        raise ValueError(f"form: expected one of {FORMS}; found {form!r}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: expected 'mean' or 'sum'; found {reduction!r}")
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number above 0; found {temperature}")
    validate = validate and not torch.compiler.is_compiling()
    _check(features, labels, log_weights, form, validate)

    h = features.to(torch.promote_types(features.dtype, torch.float32))
    log_w = None
    if log_weights is not None:
        log_w = log_weights.detach() if detach_weights else log_weights
        log_w = log_w.to(h.dtype).clamp(min=torch.finfo(h.dtype).min / 4)  # so 0 * log 0 is 0
    if gather and distributed.is_initialized():
        h, labels = _all_rows(h, validate), _all_rows(labels)
        log_w = None if log_w is None else _all_rows(log_w)
    with torch.autocast(features.device.type, enabled=False):
        losses, valid = _anchors(h, labels.long(), log_w, temperature, form)
    return losses.sum() if reduction == "sum" else losses.sum() / valid.sum().clamp(min=1)


def joint_loss(
    ce_encoder: Tensor, ce_weighting: Tensor | float, contrastive: Tensor, alpha: float
) -> Tensor:
    """Joint objective, Eq. 6, for SCL with L_w = 0. ValueError for alpha outside 0 to 1."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a number in [0, 1]; found {alpha}")
    return alpha * (ce_weighting + ce_encoder) + (1 - alpha) * contrastive


def _anchors(
    h: Tensor, labels: Tensor, log_w: Tensor | None, temperature: float, form: str
) -> tuple[Tensor, Tensor]:
    """Eqs. 2-4 in one place: the loss of each anchor, and which anchors have a positive."""
    positives = (labels[:, None] == labels).fill_diagonal_(False)
    count = positives.sum(1)  # |P_i|
    valid = count > 0

    logits = h @ h.T / temperature  # h_i . h_k / tau
    if log_w is not None:
        logits = logits + log_w.index_select(1, labels)  # + log w_{i,y_k}
    logits.fill_diagonal_(torch.finfo(h.dtype).min)  # k in I without i
    targets = positives.to(h.dtype) / count.clamp(min=1)[:, None]  # 1 / |P_i| on every positive
    loss = cross_entropy(logits, targets, reduction="none")
    if log_w is not None and form == "released":
        own = log_w.gather(1, labels[:, None]).squeeze(1)  # log w_{i,y_i}: out of the log,
        loss = own.exp() * (loss + own)  # and w_{i,y_i} before it
    return loss.where(valid, 0), valid


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
def _check(features: Tensor, labels: Tensor, log_w: Tensor | None, form: str, values: bool) -> None:
    n = len(features)
    if features.ndim != 2 or n == 0 or not features.is_floating_point():
        found = f"{features.dtype} {tuple(features.shape)}"
        raise ValueError(f"features: expected float (N > 0, d); found {found}")
    if labels.shape != (n,) or labels.is_floating_point():
        raise ValueError(f"labels: expected ({n},) integers; found {labels.dtype} {labels.shape}")
    if log_w is not None and (log_w.ndim != 2 or len(log_w) != n or not log_w.is_floating_point()):
        raise ValueError(f"log_weights: expected float ({n}, C); found {log_w.dtype} {log_w.shape}")
    if not values:
        return
    sums = {"features: expected normalised rows; found norms": features.norm(dim=1)}
    if log_w is not None:
        sums["log_weights: expected log-probabilities; found sums"] = log_w.exp().sum(1)
        low, high = labels.aminmax()
        if low < 0 or high >= log_w.shape[1]:
            raise ValueError(f"labels: expected 0 to {log_w.shape[1] - 1}; found {low} to {high}")
        if form == "printed" and log_w.gather(1, labels.long()[:, None]).isinf().any():
            raise ValueError("log_weights: expected own classes of weight above 0; found 0")
    for expected, ones in sums.items():
        slack = 5e-2 if ones.dtype.itemsize == 2 else 1e-3
        low, high = ones.aminmax()
        if not 1 - slack <= low <= high <= 1 + slack:  # nor is NaN
            raise ValueError(f"{expected} from {low:.4g} to {high:.4g}")
