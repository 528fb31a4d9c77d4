import numpy as np
import torch
from scipy.ndimage import uniform_filter

from sklearn_anogan._losses import (
    ADVERSARIAL_LOSSES,
    anogan_loss,
    bce_discriminator_loss,
    bce_generator_loss,
    discrimination_loss,
    largest_loss,
    recognition_loss,
    residual_loss,
    smooth,
    square_loss,
)


def test_bce_by_hand(rng):
    real, fake = rng.normal(size=(2, 7))
    p_real, p_fake = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    loss_D = bce_discriminator_loss(torch.tensor(real), torch.tensor(fake))
    loss_G = bce_generator_loss(torch.tensor(fake))
    np.testing.assert_allclose(loss_D, -np.mean(np.log(p_real) + np.log(1 - p_fake)))
    np.testing.assert_allclose(loss_G, -np.mean(np.log(p_fake)))
    assert ADVERSARIAL_LOSSES["bce"] == (bce_discriminator_loss, bce_generator_loss)


def test_bce_generator_loss_does_not_saturate():
    """Where D is sure that an image is generated, the gradient stays close to 1."""
    logit = torch.tensor([-30.0], requires_grad=True)
    bce_generator_loss(logit).backward()
    assert -1.001 < logit.grad < -0.999


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


def test_smoothed_losses(rng):
    """Of the difference smoothed: its mean square, and its largest relative value."""
    x, G_z = rng.normal(size=(2, 3, 2, 4, 5))
    scale = rng.uniform(1, 10, size=(2, 4, 5))

    def smoothed(difference):
        return uniform_filter(difference, (1, 1, 3, 3), mode="nearest")

    of = torch.tensor(x), torch.tensor(G_z)
    np.testing.assert_allclose(smooth(of[0]), smoothed(x))
    expected = (smoothed(x - G_z) ** 2).reshape(3, -1).mean(1)
    np.testing.assert_allclose(square_loss(*of), expected)
    expected = np.abs(smoothed((x - G_z) / scale)).reshape(3, -1).max(1)
    np.testing.assert_allclose(largest_loss(*of, torch.tensor(scale)), expected)


def test_one_pixel_is_not_smoothed(rng):
    x = torch.tensor(rng.normal(size=(6, 3, 1, 1)))
    torch.testing.assert_close(smooth(x), x)


def test_recognition_loss():
    logits, t = torch.randn(6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = torch.stack([-p[i, t[i]].log() for i in range(6)])
    torch.testing.assert_close(recognition_loss(logits, t), expected)
