# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Displays and a report of what a detector has learned and finds, and a test."""

from ._anomalies import AnomalyMapDisplay, ScoreHistogramDisplay
from ._learning import LatentSearchDisplay, LatentWalkDisplay, TrainingDisplay
from ._memorization import MemorizationResult, memorization_test
from ._report import report

__all__ = [
    "AnomalyMapDisplay",
    "LatentSearchDisplay",
    "LatentWalkDisplay",
    "MemorizationResult",
    "ScoreHistogramDisplay",
    "TrainingDisplay",
    "memorization_test",
    "report",
]
