# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The training: from images and settings to a `Model`.

The training does not know the detector.
"""

from ._adversarial import ADVERSARIAL_LOSSES
from ._callbacks import Reports
from ._run import TrainingRun, train_encoder, train_gan
from ._settings import TrainingSettings

__all__ = [
    "ADVERSARIAL_LOSSES",
    "Reports",
    "TrainingRun",
    "TrainingSettings",
    "train_encoder",
    "train_gan",
]
