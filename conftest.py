"""What the examples of docstrings and of the user guide share."""

import sys

import pytest


@pytest.fixture(autouse=True)
def no_figures_left():
    """Close what was drawn: matplotlib warns of more than twenty open figures."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
