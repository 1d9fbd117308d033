"""How nbval checks the notebooks; the commands are in the Makefile."""

import pytest


def pytest_collectstart(collector):
    """Never compare warnings, or tables that pandas styles."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += ("stderr", "text/html")


def pytest_itemcollected(item):
    """nbval waits five seconds for a cell's output, too little on a busy machine."""
    if hasattr(item, "output_timeout"):
        item.output_timeout = 60


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
