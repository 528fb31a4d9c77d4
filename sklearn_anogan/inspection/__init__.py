# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Displays of what a detector has learned and finds, and a test of memorisation."""

from ._anomalies import AnomalyMapDisplay, ScoreHistogramDisplay
from ._learning import LatentSearchDisplay, LatentWalkDisplay, TrainingDisplay
from ._memorization import MemorizationResult, memorization_test

__all__ = [
    "AnomalyMapDisplay",
    "LatentSearchDisplay",
    "LatentWalkDisplay",
    "MemorizationResult",
    "ScoreHistogramDisplay",
    "TrainingDisplay",
    "memorization_test",
]
