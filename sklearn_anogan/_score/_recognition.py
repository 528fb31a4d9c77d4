# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""How badly the discriminator recognizes the way an image is turned and moved."""

import torch

from .._losses import recognition_loss
from ._term import Term


class Recognition(Term):
    """Mean of -log p(t | t(x)) over the transformations t of the second task.

    Golan and El-Yaniv 2018, "Deep anomaly detection using geometric transformations",
    :doi:`10.48550/arXiv.1805.10917`.
    """

    name = "recognition"
    group = "features"

    def is_defined(self, model):
        return model.recognizer is not None

    def measure(self, batch, learned):
        R, D, x = batch.networks.recognizer, batch.networks.discriminator, batch.seen
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for t, transformation in enumerate(R.transformations):
            logits = R(D.features(transformation(x)))
            true = torch.full_like(total, t).long()
            total += recognition_loss(logits.double(), true)
        return total / len(R.transformations)
