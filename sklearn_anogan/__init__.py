# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""AnoGAN anomaly detection on images and rows, with scikit-learn's interface."""

__version__ = "0.1.0"

from ._detector import AnoGANDetector
from ._patches import PatchDetector

__all__ = ["AnoGANDetector", "PatchDetector"]
