# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Losses that more than one part of the library computes.

The latent search descends AnoGAN's loss, and its two terms rank images too. The
recognition loss trains the discriminator and ranks images. Equation numbers refer
to Schlegl et al. 2017, :doi:`10.1007/978-3-319-59050-9_12`.
"""

from torch.nn.functional import avg_pool2d, log_softmax, mse_loss, pad


def residual_loss(x, G_z):
    """Residual loss, equation (2): mean absolute difference of the pixels.

    The paper takes the sum. With the mean, both terms of the loss are comparable, and
    their weight means the same for images and feature maps of any size.

    Parameters
    ----------
    x, G_z : tensors of shape (n, ...)
        Images and generated images, in [-1, 1] where they lie in the training range.

    Returns
    -------
    loss : tensor of shape (n,)
    """
    return _mean_absolute(x - G_z)


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


def anogan_loss(residual, discrimination, discrimination_weight):
    """AnoGAN's loss, equation (5): (1 - w) * residual + w * discrimination."""
    w = discrimination_weight
    return (1 - w) * residual + w * discrimination


def recognition_loss(logits, t):
    """Recognition loss: how surprised D is by the way an image was transformed.

    The loss trains D in its second task, see Chen et al. 2019, "Self-supervised GANs
    via auxiliary rotation loss", :doi:`10.48550/arXiv.1811.11212`. Its mean over all
    transformations of an image ranks images, see Golan and El-Yaniv 2018,
    :doi:`10.48550/arXiv.1805.10917`.

    Parameters
    ----------
    logits : tensor of shape (n, n_transformations)
        What D takes the transformations of n images for.
    t : tensor of shape (n,), int64
        The true transformations.

    Returns
    -------
    loss : tensor of shape (n,)
        -log p(t | t(x)).
    """
    return -log_softmax(logits, 1).gather(1, t[:, None]).squeeze(1)


def encoder_loss(x, G_z, f_x, f_G_z):
    """Loss of an encoder E, with z = E(x): izi_f, image-to-image with features.

    Equation (5) of Schlegl et al. 2019, "f-AnoGAN", :doi:`10.1016/j.media.2019.01.010`,
    with its weight kappa of 1.

    Parameters
    ----------
    x, G_z : tensors of shape (n, ...)
        Images, and the images that G generates from the images' codes.
    f_x, f_G_z : tensors of shape (n, ...)
        An intermediate layer f of D for both.

    Returns
    -------
    loss : scalar tensor
        Mean square difference of the pixels plus the mean square difference of the
        features.
    """
    return mse_loss(G_z, x) + mse_loss(f_G_z, f_x)


def smooth(difference):
    """Means of 3x3 pixels of (n, c, h, w); values at the edge are repeated beyond it.

    No generated image has every edge exactly where the image has it. The difference
    that this leaves changes its sign from pixel to pixel and vanishes in the means. The
    difference that a missing part leaves stays.
    """
    return avg_pool2d(pad(difference, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def _mean_absolute(difference):
    # Not flatten(1).mean(1): it would copy images that lie channels last in memory.
    return difference.abs().mean(tuple(range(1, difference.ndim)))
