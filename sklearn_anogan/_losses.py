# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Losses that train the networks, and loss terms that compare an image with G(z).

Equation numbers are those of Schlegl et al. 2017, :doi:`10.1007/978-3-319-59050-9_12`.
"""

from torch.nn.functional import avg_pool2d, log_softmax, mse_loss, pad, softplus


def bce_discriminator_loss(d_real, d_fake):
    """Binary cross-entropy of D, equation (1) with the sign of a loss.

    Parameters
    ----------
    d_real, d_fake : tensors of shape (n,)
        Logits D(x) of real images and D(G(z)) of generated ones.

    Returns
    -------
    loss : scalar tensor
        Mean of -log s(D(x)) - log(1 - s(D(G(z)))), with s the logistic function.
    """
    return softplus(-d_real).mean() + softplus(d_fake).mean()


def bce_generator_loss(d_fake):
    """Non-saturating loss of G: the mean of -log s(D(G(z))).

    Equation (1) has G minimise log(1 - s(D(G(z)))), whose gradient vanishes while D
    wins; this form has the same fixed point and keeps its gradient, see Goodfellow et
    al. 2014, section 3, :doi:`10.48550/arXiv.1406.2661`.
    """
    return softplus(-d_fake).mean()


#: ``adversarial_loss`` -> (loss of D from real and generated logits, loss of G).
ADVERSARIAL_LOSSES = {"bce": (bce_discriminator_loss, bce_generator_loss)}


def encoder_loss(x, G_z, f_x, f_G_z):
    """Loss of an encoder E, with z = E(x): izi_f, image-to-image with features.

    Equation (5) of Schlegl et al. 2019, "f-AnoGAN", :doi:`10.1016/j.media.2019.01.010`,
    with its weight kappa of 1.

    Parameters
    ----------
    x, G_z : tensors of shape (n, ...)
        Images and what G makes of their codes.
    f_x, f_G_z : tensors of shape (n, ...)
        An intermediate layer f of D for both.

    Returns
    -------
    loss : scalar tensor
        Mean square difference of the pixels plus that of the features.
    """
    return mse_loss(G_z, x) + mse_loss(f_G_z, f_x)


def residual_loss(x, G_z):
    """Residual loss, equation (2): mean absolute difference of the pixels.

    The paper takes the sum. The mean makes the two terms comparable, and their weight
    mean the same thing, whatever the size of image and feature map.

    Parameters
    ----------
    x, G_z : tensors of shape (n, ...)
        Images and generated images, in [-1, 1] where they lie in the training range.

    Returns
    -------
    loss : tensor of shape (n,)
    """
    return _mean_absolute(x - G_z)


def square_loss(x, G_z):
    """Mean square difference of the pixels, smoothed, for tensors (n, c, h, w).

    No generated image has every edge where the image has it. What that leaves changes
    its sign from pixel to pixel and goes with `smooth`, a missing part stays.
    """
    return smooth(x - G_z).square().mean((1, 2, 3))


def largest_loss(x, G_z, scale):
    """The largest difference of the pixels, smoothed, relative to what is usual there.

    Parameters
    ----------
    x, G_z : tensors of shape (n, channels, height, width)
        Images and generated images.
    scale : tensor of shape (channels, height, width)
        What normal images leave in each place, see `_calibration.residual_scale`.

    Returns
    -------
    loss : tensor of shape (n,)
    """
    return smooth((x - G_z) / scale).abs().amax((1, 2, 3))


def smooth(difference):
    """Means of 3x3 pixels of (n, c, h, w); the edge's go on beyond it."""
    return avg_pool2d(pad(difference, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def discrimination_loss(f_x, f_G_z):
    """Discrimination loss, equation (4): mean absolute difference of D's features.

    Parameters
    ----------
    f_x, f_G_z : tensors of shape (n, ...)
        An intermediate layer f of D for images and for generated images.

    Returns
    -------
    loss : tensor of shape (n,)
    """
    return _mean_absolute(f_x - f_G_z)


def recognition_loss(logits, t):
    """Recognition loss: how surprised D is by the way an image was transformed.

    It trains D in its second task, see Chen et al. 2019, "Self-supervised GANs via
    auxiliary rotation loss", :doi:`10.48550/arXiv.1811.11212`; its mean over all
    transformations of an image ranks images, see Golan and El-Yaniv 2018,
    :doi:`10.48550/arXiv.1805.10917`.

    Parameters
    ----------
    logits : tensor of shape (n, n_transformations)
        What D takes the transformations of n images for.
    t : tensor of shape (n,), int64
        What they were.

    Returns
    -------
    loss : tensor of shape (n,)
        -log p(t | t(x)).
    """
    return -log_softmax(logits, 1).gather(1, t[:, None]).squeeze(1)


def anogan_loss(residual, discrimination, discrimination_weight):
    """AnoGAN's loss, equation (5): (1 - w) * residual + w * discrimination."""
    w = discrimination_weight
    return (1 - w) * residual + w * discrimination


def _mean_absolute(difference):
    # Not flatten(1).mean(1): it would copy images that lie channels last in memory.
    return difference.abs().mean(tuple(range(1, difference.ndim)))
