"""How nbval checks the notebooks, several at a time; the command is in the Makefile."""

from pathlib import Path

import pytest
from nbval import kernel

start_new_kernel = kernel.start_new_kernel

# Train nothing, so every output must come out as committed. Of the others only marked
# cells are compared.
EXACT = ("03_losses",)
# May have runs in common, so they are never run at the same time.
SHARING = ("00_quickstart", "04_training", "06_entropy", "09_beyond")


def start_or_start_again(*arguments, **options):
    """Of two that start at once one seldom dies, probably by the other's port."""
    try:
        return start_new_kernel(*arguments, **options)
    except RuntimeError:
        return start_new_kernel(*arguments, **options)


kernel.start_new_kernel = start_or_start_again


def pytest_collectstart(collector):
    """Never compare warnings, or tables that pandas styles."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr", "text/html")
        collector.compare_outputs = collector.path.stem in EXACT


def pytest_itemcollected(item):
    """nbval waits five seconds for a cell's output, too little on a busy machine."""
    if hasattr(item, "output_timeout"):
        item.output_timeout = 60


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """All cells of a notebook go to the same process, whichever is free."""
    from xdist.scheduler import LoadScopeScheduling

    class ByNotebook(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            stem = Path(nodeid.split("::")[0]).stem
            return "sharing" if stem in SHARING else stem

    return ByNotebook(config, log)


def pytest_runtest_makereport(item, call):
    if (
        hasattr(item, "cell_num")
        and call.excinfo
        and not call.excinfo.errisinstance(pytest.skip.Exception)
    ):
        item.parent.lclkit_failed = True


def pytest_runtest_setup(item):
    """After the first failing cell of a notebook the rest would only fail with it."""
    if getattr(item.parent, "lclkit_failed", False):
        pytest.skip("an earlier cell of this notebook failed")
