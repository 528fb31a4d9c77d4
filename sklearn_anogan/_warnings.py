# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Warnings that point at the user's own line."""

import sys
import warnings

#: Packages whose frames are not the user's code.
_LIBRARIES = ("sklearn_anogan", "sklearn", "skorch", "joblib", "torch")


def warn_user(message, category=UserWarning):
    """Warn at the line of the user's own code, however deep in libraries we are."""
    depth, frame = 1, sys._getframe()
    while frame.f_back and _package_of(frame) in _LIBRARIES:
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, category, stacklevel=depth)


def _package_of(frame):
    return frame.f_globals.get("__name__", "").partition(".")[0]
