"""The losses of the paper: Eqs. 1-4 and 6.

One idea carries them: each is a cross-entropy whose classes are the other rows of the batch, spread evenly over the
anchor's positives. The label-aware contrastive loss (LCL) is the supervised one (SCL) with ``log_weights[:, labels]``,
that is log w_{i,y_k}, added to the similarity logits. `_anchors` shows it in one screen. All is done in log space, so
that an underflow does no harm, and in float32 or better, also under autocast.
"""

import numbers

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

FORMS = ("released", "printed")
REDUCTIONS = ("mean", "sum")
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
COMPARISONS = (
    2**21
)  # a block's logits with block_rows="auto": 8 MB in float32, about a processor's cache


def self_loss(
    features: Tensor,
    view_of: Tensor,
    temperature: float = 0.3,
    *,
    reduction: str = "mean",
    validate: bool = True,
) -> Tensor:
    """Self-supervised contrastive loss, Eq. 1 (SimCLR's): the only positive of row i is its other view, g(i).

    features: ``(N, d)`` unit-norm rows. view_of: ``(N,)`` integers, g(i). temperature: tau > 0.
    reduction: "mean" over rows, or "sum" as Eq. 1 is printed. Raises ValueError naming the argument at fault.
    """
    _check(features, view_of, temperature, reduction, validate, name="view_of")
    rows = torch.arange(len(features), device=features.device)
    return _contrast(features, view_of.long(), rows, temperature, reduction)


def scl_loss(
    features: Tensor,
    labels: Tensor,
    temperature: float = 0.3,
    *,
    reduction: str = "mean",
    gather: bool = False,
    block_rows: int | str = "auto",
    validate: bool = True,
) -> Tensor:
    """Supervised contrastive loss, Eq. 2 (Khosla et al. 2020): all other rows of the same class are positives.

    Arguments and errors as in `lcl_loss`, of which this is the case of equal weights: with w_{i,c} = 1/C the printed
    form of LCL equals SCL, and the released form equals (SCL - ln C) / C.
    """
    _check(features, labels, temperature, reduction, validate, block_rows=block_rows)
    labels = labels.long()
    return _contrast(
        features,
        labels,
        labels,
        temperature,
        reduction,
        gather=gather,
        block_rows=block_rows,
        validate=validate,
    )


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
    block_rows: int | str = "auto",
    validate: bool = True,
) -> Tensor:
    """Label-aware contrastive loss, Eqs. 3 and 4: every comparison of i and k is weighted by w_{i,y_k}.

    features: ``(N, d)`` unit-norm rows; N = 2K: K texts, then their K augmented views.
    labels: ``(N,)`` integers in ``[0, C)``.
    log_weights: ``(N, C)`` log-probabilities of the weighting network, ``logits.log_softmax(1)`` (Eq. 5).
    temperature: tau > 0.
    form: "released" has the positive's weight outside the log, as the authors' code does and their results follow;
        "printed" has it inside, as Eq. 3 is printed.
    reduction: "mean" over the anchors that have a positive (the authors' code), or "sum" (Eq. 4). An anchor without
        a positive is left out; where none has one, the loss is zero and so is its gradient.
    detach_weights: let no gradient flow into `log_weights`; it does in the authors' code.
    gather: compare with the rows of all processes of torch.distributed, each of which has N rows. All processes get
        the same loss, that of one process with all rows, and gradients that give the same after DDP's averaging.
        Where torch.distributed is not initialised there is one process, and nothing changes.
    block_rows: anchors that are worked on at a time; "auto" takes all at once while that is fast, blocks beyond.
        Memory then grows with N instead of N^2; values and gradients are the same, but there is no second derivative.
        The memory that an encoder needs for its N rows is another matter, and usually the larger one. While
        torch.compile traces, all are taken at once.
    validate: check values too (finite, unit norm, in range; equally many rows in all processes), which waits for the
        device. Shapes and dtypes are always checked; values never while torch.compile traces.

    The released form can be negative. Relations: `scl_loss` has equal weights, `self_loss` a single positive.
    Raises ValueError naming the argument at fault.
    """
    if form not in FORMS:
        raise ValueError(f"form: expected one of {FORMS}, found {form!r}")
    _check(
        features,
        labels,
        temperature,
        reduction,
        validate,
        log_weights=log_weights,
        block_rows=block_rows,
    )
    labels, log_weights = labels.long(), log_weights.detach() if detach_weights else log_weights
    return _contrast(
        features,
        labels,
        labels,
        temperature,
        reduction,
        log_weights,
        form,
        gather,
        block_rows,
        validate,
    )


def joint_loss(
    ce_encoder: Tensor, ce_weighting: Tensor | float, contrastive: Tensor, alpha: float
) -> Tensor:
    """Joint objective, Eq. 6: alpha (L_w + L_e) + (1 - alpha) L_LCL.

    ce_encoder: L_e. ce_weighting: L_w, or 0 without a weighting network (SCL). contrastive: L_LCL or L_SCL.
    alpha: weight of cross-entropy, in [0, 1] (Gunel et al. put theirs on the other term); else ValueError.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected a number in [0, 1], found {alpha}")
    return alpha * (ce_weighting + ce_encoder) + (1 - alpha) * contrastive


def _anchors(h, log_w, others, wanted, offered, first, temperature, form):
    """Eqs. 1-4 in one place: the sum of the losses of some anchors, and how many of them have a positive.

    h: ``(n, d)`` anchors, which are the rows `first` to `first + n` of others: ``(N, d)``. log_w: ``(n, C)`` or None.
    wanted, offered: ``(n,)`` and ``(N,)``; k is a positive of i where offered_k = wanted_i and k is not i.
    """
    index = torch.arange(len(others), device=h.device)
    itself = index[first : first + len(h), None] == index
    positives = (wanted[:, None] == offered) & ~itself
    count = positives.sum(1)  # |P_i|
    valid = count > 0

    logits = h @ others.T / temperature  # h_i . h_k / tau
    if log_w is not None:
        logits = logits + log_w.index_select(1, offered)  # + log w_{i,y_k}
    logits = logits.masked_fill(itself, torch.finfo(h.dtype).min)  # k in I without i
    targets = positives.to(h.dtype) / count.clamp(min=1)[:, None]  # 1 / |P_i| on every positive
    loss = cross_entropy(logits, targets, reduction="none")
    if form == "released":
        own = log_w.gather(1, wanted[:, None]).squeeze(1)  # log w_{i,y_i}: out of the log,
        loss = own.exp() * (loss + own)  # and w_{i,y_i} before it
    return loss.where(valid, 0).sum(), valid.sum()


def _contrast(
    features,
    wanted,
    offered,
    temperature,
    reduction,
    log_weights=None,
    form="printed",
    gather=False,
    block_rows="auto",
    validate=True,
):
    """`_anchors` over all anchors: at once or in blocks, compared with the rows of this process or of all."""
    with torch.autocast(features.device.type, enabled=False):
        h = features.to(torch.promote_types(features.dtype, torch.float32))
        log_w = None if log_weights is None else log_weights.to(h.dtype)
        gather = gather and distributed.is_available() and distributed.is_initialized()
        others, offered, first = _gather(h, offered, validate) if gather else (h, offered, 0)
        if log_w is not None and validate and not torch.compiler.is_compiling():
            _need(
                not log_w[:, offered.unique()].isneginf().any(),
                "log_weights: expected a weight above 0 for every class in the batch",
                "-inf",
            )
        if block_rows == "auto":
            comparisons = len(h) * len(others)
            block_rows = (
                len(h) if comparisons <= 2 * COMPARISONS else max(1, COMPARISONS // len(others))
            )
        batch = (h, log_w, others, wanted, offered, first, temperature, form)
        at_once = block_rows >= len(h) or torch.compiler.is_compiling()
        total, count = _anchors(*batch) if at_once else _Blocks.apply(block_rows, *batch)
        if gather:  # the count too: a mean of the processes' means would be another loss
            total, count = (_FromAll.apply(x[None]).sum() for x in (total, count))
        return total if reduction == "sum" else total / count.clamp(min=1)


class _Blocks(torch.autograd.Function):
    """`_anchors` of a few anchors at a time. The gradient is taken with the value, so that no block's logits stay."""

    @staticmethod
    def forward(ctx, block_rows, h, log_w, others, wanted, offered, first, temperature, form):
        total, count = h.new_zeros(()), torch.zeros((), dtype=torch.long, device=h.device)
        slopes = [
            torch.zeros_like(x) if needed else None
            for x, needed in zip((h, log_w, others), ctx.needs_input_grad[1:4], strict=True)
        ]
        for i in range(0, len(h), block_rows):
            rows = slice(i, i + block_rows)
            parts = [h[rows], None if log_w is None else log_w[rows], others]
            parts = [
                x if slope is None else x.detach().requires_grad_()
                for x, slope in zip(parts, slopes, strict=True)
            ]
            with torch.enable_grad():
                loss, valid = _anchors(*parts, wanted[rows], offered, first + i, temperature, form)
            if loss.requires_grad:
                loss.backward()
            for x, slope, place in zip(parts, slopes, (rows, rows, slice(None)), strict=True):
                if slope is not None:
                    slope[place] += x.grad
            total, count = total + loss.detach(), count + valid
        ctx.save_for_backward(*slopes)
        ctx.mark_non_differentiable(count)
        return total, count

    @staticmethod
    @once_differentiable
    def backward(ctx, scale, _):
        return (
            None,
            *(None if slope is None else scale * slope for slope in ctx.saved_tensors),
            *[None] * 5,
        )


class _FromAll(torch.autograd.Function):
    """The rows of all processes, one process after the other. What each of them gives a row as its gradient adds up."""

    @staticmethod
    def forward(ctx, rows):
        rows = rows.contiguous()  # NCCL takes nothing else
        found = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(found, rows)
        return torch.cat(found)

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        slope = slope.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(slope)
        return slope.chunk(distributed.get_world_size())[distributed.get_rank()]


def _gather(h, offered, validate):
    """The rows of all processes with gradient, what they offer, and which of them is this process's first."""
    sizes = _FromAll.apply(torch.tensor([len(h)], device=h.device)).tolist() if validate else []
    if len(set(sizes)) > 1:
        raise ValueError(
            "features: expected as many rows in every process (leave out the last, smaller batch); "
            f"found {sizes}"
        )
    return _FromAll.apply(h), _FromAll.apply(offered), distributed.get_rank() * len(h)


def _check(
    features,
    integers,
    temperature,
    reduction,
    validate,
    *,
    name="labels",
    log_weights=None,
    block_rows="auto",
):
    """ValueErrors for wrong input; `integers` are labels, or the views of Eq. 1, as `name` says."""
    n = (
        len(features)
        if isinstance(features, Tensor) and features.ndim == 2 and features.is_floating_point()
        else 0
    )
    _need(n > 0, "features: expected a floating (N, d) tensor with at least one row", features)
    _need(
        isinstance(integers, Tensor) and integers.shape == (n,) and integers.dtype in INTEGERS,
        f"{name}: expected ({n},) integers, one for each row of features",
        integers,
    )
    _need(
        isinstance(temperature, numbers.Real) and temperature > 0,
        "temperature: expected a number above 0",
        temperature,
    )
    _need(reduction in REDUCTIONS, f"reduction: expected one of {REDUCTIONS}", reduction)
    _need(
        block_rows == "auto" or type(block_rows) is int and block_rows > 0,
        'block_rows: expected "auto" or a number of rows above 0',
        block_rows,
    )
    if log_weights is not None:
        _need(
            isinstance(log_weights, Tensor)
            and log_weights.ndim == 2
            and len(log_weights) == n
            and log_weights.shape[1] > 0
            and log_weights.is_floating_point(),
            f"log_weights: expected a floating ({n}, C) tensor",
            log_weights,
        )
    if not validate or torch.compiler.is_compiling():
        return
    below = n if name == "view_of" else None if log_weights is None else log_weights.shape[1]
    lowest, highest = int(integers.min()), int(integers.max())
    expected = f"{name}: expected integers from 0" + ("" if below is None else f" to {below - 1}")
    _need(lowest >= 0, expected, lowest)
    _need(below is None or highest < below, expected, highest)
    _need(
        name == "labels" or not (integers == torch.arange(n, device=integers.device)).any(),
        "view_of: expected another row as the view of each row",
        "a row as its own",
    )
    half = (torch.float16, torch.bfloat16)
    norms = features.detach().float().norm(dim=1)
    wrong = ~((norms - 1).abs() <= (1e-2 if features.dtype in half else 1e-3))  # true for NaN too
    row = int(wrong.int().argmax())
    _need(
        not wrong.any(),
        "features: expected finite rows of norm 1, as torch.nn.functional.normalize gives them",
        f"norm {norms[row]:.4g} in row {row}",
    )
    if log_weights is not None:
        log_w = log_weights.detach().float()
        mass = log_w.logsumexp(1).exp()
        wrong = ~((mass - 1).abs() <= (5e-2 if log_weights.dtype in half else 1e-3))
        row = int(wrong.int().argmax())
        _need(
            not wrong.any(),
            "log_weights: expected log-probabilities, as logits.log_softmax(1) gives them",
            f"probabilities that sum to {mass[row]:.4g} in row {row}",
        )


def _need(fulfilled: bool, expected: str, found) -> None:
    if not fulfilled:
        shown = found if isinstance(found, (str, int, float)) else type(found).__name__
        raise ValueError(
            f"{expected}; found {tuple(found.shape)} {found.dtype}"
            if isinstance(found, Tensor)
            else f"{expected}; found {shown}"
        )
