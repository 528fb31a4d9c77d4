from types import SimpleNamespace

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from sklearn_anogan._losses import (
    anogan_loss,
    discrimination_loss,
    encoder_loss,
    recognition_loss,
    residual_loss,
    smooth,
)
from sklearn_anogan._score._largest_residual import LargestResidual
from sklearn_anogan._score._squared_residual import SquaredResidual


def test_terms_by_hand(rng):
    """Both terms are means of absolute differences, image by image."""
    for term, shape in [(residual_loss, (2, 4, 5)), (discrimination_loss, (6, 3, 3))]:
        a, b = rng.normal(size=(2, 3, *shape))
        found = term(torch.tensor(a), torch.tensor(b))
        by_hand = [
            sum(abs(u - v) for u, v in zip(x.ravel(), y.ravel(), strict=True)) / x.size
            for x, y in zip(a, b, strict=True)
        ]
        np.testing.assert_allclose(found, by_hand, rtol=1e-12)


def test_anogan_loss_by_hand():
    assert anogan_loss(2.0, 10.0, 0.1) == 0.9 * 2.0 + 0.1 * 10.0
    assert anogan_loss(2.0, 10.0, 0) == 2.0
    assert anogan_loss(2.0, 10.0, 1) == 10.0


def test_smoothed_terms(rng):
    """Of the difference smoothed: its mean square, and its largest relative value."""
    x, G_z = rng.normal(size=(2, 3, 2, 4, 5))
    scale = rng.uniform(1, 10, size=(2, 4, 5))

    def smoothed(difference):
        return uniform_filter(difference, (1, 1, 3, 3), mode="nearest")

    batch = SimpleNamespace(seen=torch.tensor(x), G_z=torch.tensor(G_z))
    np.testing.assert_allclose(smooth(batch.seen), smoothed(x))
    expected = (smoothed(x - G_z) ** 2).reshape(3, -1).mean(1)
    np.testing.assert_allclose(SquaredResidual().measure(batch, {}), expected)
    expected = np.abs(smoothed((x - G_z) / scale)).reshape(3, -1).max(1)
    learned = {"scale": torch.tensor(scale)}
    np.testing.assert_allclose(LargestResidual().measure(batch, learned), expected)


def test_one_pixel_is_not_smoothed(rng):
    x = torch.tensor(rng.normal(size=(6, 3, 1, 1)))
    torch.testing.assert_close(smooth(x), x)


def test_recognition_loss():
    logits, t = torch.randn(6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = torch.stack([-p[i, t[i]].log() for i in range(6)])
    torch.testing.assert_close(recognition_loss(logits, t), expected)


def test_encoder_loss_by_hand(rng):
    """Mean square differences of pixels and of features, with the same weight."""
    x, G_z = rng.normal(size=(2, 3, 2, 4, 5))
    f_x, f_G_z = rng.normal(size=(2, 3, 6, 2, 2))
    loss = encoder_loss(*map(torch.tensor, (x, G_z, f_x, f_G_z)))
    expected = np.mean((x - G_z) ** 2) + np.mean((f_x - f_G_z) ** 2)
    np.testing.assert_allclose(loss, expected)
