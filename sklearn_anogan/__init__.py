# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""AnoGAN anomaly detection on images and rows, with scikit-learn's interface."""

from ._detector import AnoGANDetector
from ._patches import PatchDetector

__version__ = "0.1.0.dev0"

__all__ = ["AnoGANDetector", "PatchDetector"]
