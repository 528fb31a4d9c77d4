# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Losses of the adversarial training.

A loss is a callable that gets the discriminator D as a function, real images and
generated ones, and answers with the losses of both networks. So a loss may compare the
logits of both kinds of images (relativistic losses) or ask for the logits' gradients in
the images (R1 and R2 penalties). To add a loss, enter an object in
`ADVERSARIAL_LOSSES`.
"""

from torch.nn.functional import softplus


class BinaryCrossEntropy:
    """The paper's equation (1), with the sign of a loss; see Schlegl et al. 2017."""

    def __call__(self, D, x, G_z):
        """The losses of D and of G, and the logits.

        Equation (1) has G minimise log(1 - s(D(G(z)))), whose gradient vanishes while D
        wins. The loss of G here has the same fixed point and keeps its gradient, see
        Goodfellow et al. 2014, section 3, :doi:`10.48550/arXiv.1406.2661`.

        Parameters
        ----------
        D : callable
            Images (n, channels, height, width) -> logits (n,), float32.
        x, G_z : tensors of shape (n, channels, height, width)
            Real and generated images, these with their gradient to the generator.

        Returns
        -------
        loss_D, loss_G : scalar tensors
            With s the logistic function, the means of -log s(D(x)) -
            log(1 - s(D(G(z)))) and of -log s(D(G(z))). Each network only descends its
            own loss.
        d_real, d_fake : tensors of shape (n,)
            Logits D(x) and D(G(z)), for the history.
        """
        d_real, d_fake = D(x), D(G_z)
        loss_D = softplus(-d_real).mean() + softplus(d_fake).mean()
        return loss_D, softplus(-d_fake).mean(), d_real, d_fake


#: ``adversarial_loss`` -> the loss.
ADVERSARIAL_LOSSES = {"bce": BinaryCrossEntropy()}
