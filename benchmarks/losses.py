"""Time and memory of the label-aware loss, forward and backward, beside three others.

    python benchmarks/losses.py                 about a minute on two CPU cores
    python benchmarks/losses.py --sizes 20 64   some batch sizes only

ours    `lclkit.losses.lcl_loss`, released form, value checks off.
checks  the same with value checks on.
pml     `pytorch_metric_learning.losses.SupConLoss`, which has no label weights to compute. It is no
        dependency: pip install --no-deps pytorch-metric-learning==2.9.0
loops   the same loss in the manner of the authors' code: a double loop fills the matrix of weights.
floor   what no exact loss over all pairs can avoid: three N x N x d products and one exponential,
        without autograd.

Prints one Markdown table: medians of many rounds. Each round has another order, since a slow
variant slows whatever follows it. The loops, by far the slowest, have rounds of their own at the
very end. All variants hold matrices of N x N, so their memory grows with N^2: larger batches are
a matter of memory, not of time.
"""

import argparse
import datetime
import multiprocessing
import platform
import random
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch.nn.functional import normalize

from lclkit.losses import lcl_loss, scl_loss

try:
    from pytorch_metric_learning.losses import SupConLoss
except ImportError:
    SupConLoss = None

D, CLASSES, TAU = 384, 27, 0.3
ROUNDS = {20: 400, 64: 300, 256: 80, 1024: 21}
LOOP_ROUNDS = {20: 21, 64: 5, 256: 3}  # beyond 256 rows the loops take minutes
MEMORY_FROM = 1024  # rows; below, a batch is small beside what torch itself holds
TIMES = {
    "ours, ms": "ours",
    "checks on": "checks",
    "pml": "pml",
    "loops": "loops",
    "floor": "floor",
}
RATIOS = (("pml", "ours"), ("pml", "checks"), ("loops", "ours"), ("ours", "floor"))
MEMORY = {"ours, MiB": "ours", "pml, MiB": "pml", "floor, MiB": "floor"}


def made_batch(n: int):
    """Random unit rows, labels of n / 2 texts and their views, log-weights.

    Eq. 5's softmax is not timed: it is the weighting network's.
    """
    torch.manual_seed(n)
    return (
        normalize(torch.randn(n, D), dim=1).requires_grad_(),
        torch.randint(CLASSES, (n // 2,)).repeat(2),
        torch.randn(n, CLASSES).log_softmax(1).requires_grad_(),
    )


def ours(h, y, log_w, validate=False):
    loss = lcl_loss(h, y, log_w, TAU, validate=validate)
    torch.autograd.grad(loss, (h, log_w))
    return loss.detach()


def checks(h, y, log_w):
    return ours(h, y, log_w, validate=True)


def pml(h, y, log_w):
    loss = SupConLoss(temperature=TAU)(h, y)
    torch.autograd.grad(loss, h)
    return loss.detach()


def loops(h, y, log_w):
    w, n = log_w.exp(), len(h)
    weights, others = torch.ones(n, n), 1 - torch.eye(n)
    for i in range(n):
        for k in range(n):
            weights[i, k] = w[i, y[k]]
    positives, similarity = (y[:, None] == y) * others, h @ h.T / TAU
    everyone = (weights * similarity.exp() * others).sum(1, keepdim=True)
    loss = -((weights * (similarity - everyone.log()) * positives).sum(1) / positives.sum(1)).mean()
    torch.autograd.grad(loss, (h, log_w))
    return loss.detach()


@torch.no_grad()
def floor(h, y, log_w):
    similarity = (h @ h.T).exp()
    return similarity @ h + similarity.T @ h


VARIANTS = {"ours": ours, "checks": checks, "floor": floor}
if SupConLoss:
    VARIANTS["pml"] = pml


def threads(n: int) -> int:
    return 1 if n < 512 else 2


def milliseconds(variant, batch) -> float:
    start = time.perf_counter()
    variant(*batch)
    return 1000 * (time.perf_counter() - start)


def fast_times(n: int) -> dict[str, float]:
    """Medians in ms."""
    torch.set_num_threads(threads(n))
    batch = made_batch(n)
    if SupConLoss:
        torch.testing.assert_close(
            pml(*batch), scl_loss(*batch[:2], TAU).detach(), rtol=1e-4, atol=0
        )
    for variant in VARIANTS.values():
        variant(*batch)
    times, order = {name: [] for name in VARIANTS}, list(VARIANTS)
    for _ in range(ROUNDS.get(n, 21)):
        random.shuffle(order)
        for name in order:
            times[name].append(milliseconds(VARIANTS[name], batch))
    return {name: statistics.median(found) for name, found in times.items()}


def loops_time(n: int) -> float:
    torch.set_num_threads(threads(n))
    batch, times = made_batch(n), []
    torch.testing.assert_close(loops(*batch), ours(*batch), rtol=1e-3, atol=1e-5)
    for _ in range(LOOP_ROUNDS[n]):
        times.append(milliseconds(loops, batch))
        ours(*batch)  # takes the slowness that the loops leave behind
    return statistics.median(times)


def memory(name: str, n: int) -> float:
    """The peak above the inputs in MiB; to be called in a process of its own, and on Linux."""

    def read(field):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

    torch.set_num_threads(threads(n))
    VARIANTS[name](*made_batch(20))  # what torch sets up at its first call
    batch = made_batch(n)
    before = read("VmRSS")
    VARIANTS[name](*batch)
    return read("VmHWM") - before


def in_own_process(function, *arguments):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    cores = multiprocessing.cpu_count()
    return f"{cpu}, {cores} cores, torch {torch.__version__}, {datetime.date.today()}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=list(ROUNDS), help="rows N of the batches; even"
    )
    sizes = parser.parse_args().sizes
    times = {n: fast_times(n) for n in sizes}
    peaks = {
        n: {name: in_own_process(memory, name, n) for name in VARIANTS}
        for n in sizes
        if n >= MEMORY_FROM and sys.platform == "linux"
    }
    for n in LOOP_ROUNDS.keys() & times.keys():
        times[n]["loops"] = loops_time(n)

    print(f"LCL, forward and backward, float32, d = {D}, C = {CLASSES}, tau = {TAU}: {machine()}.")
    if not SupConLoss:
        print("pytorch-metric-learning is missing, and so are its columns:")
        print("pip install --no-deps pytorch-metric-learning==2.9.0")
    columns = [*TIMES, *(f"{over} / {name}" for over, name in RATIOS), *MEMORY]
    print("\n| N | threads | " + " | ".join(columns) + " |")
    print("|---:" * (2 + len(columns)) + "|")
    for n in sizes:
        cells = [f"{n:,}", str(threads(n))]
        cells += [shown(times[n].get(name)) for name in TIMES.values()]
        cells += [shown(ratio(times[n], *names), digits=2) for names in RATIOS]
        cells += [shown(peaks.get(n, {}).get(name)) for name in MEMORY.values()]
        print("| " + " | ".join(cells) + " |")


def ratio(times: dict[str, float], over: str, name: str) -> float | None:
    return times[over] / times[name] if over in times else None


def shown(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 10 ** (digits - 1) else f"{value:#.{digits}g}"


if __name__ == "__main__":
    main()
