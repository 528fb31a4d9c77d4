# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Losses of the adversarial training.

A loss is an object with a step of the discriminator and a step of the generator. Both
steps get the discriminator D as a function, real images and generated ones, so that a
loss may compare the logits of both (relativistic losses) or ask for their gradients in
the images (R1 and R2 penalties). To add a loss, enter an object in
`ADVERSARIAL_LOSSES`.
"""

from torch.nn.functional import softplus


class BinaryCrossEntropy:
    """The paper's equation (1), with the sign of a loss; see Schlegl et al. 2017."""

    def discriminator_step(self, D, x, G_z):
        """The loss of D, and its logits.

        Parameters
        ----------
        D : callable
            Images (n, channels, height, width) -> logits (n,), float32.
        x, G_z : tensors of shape (n, channels, height, width)
            Real images, and generated ones without a gradient to the generator.

        Returns
        -------
        loss : scalar tensor
            Mean of -log s(D(x)) - log(1 - s(D(G(z)))), with s the logistic function.
        d_real, d_fake : tensors of shape (n,)
            Logits D(x) and D(G(z)), for the history.
        """
        d_real, d_fake = D(x), D(G_z)
        loss = softplus(-d_real).mean() + softplus(d_fake).mean()
        return loss, d_real, d_fake

    def generator_step(self, D, x, G_z):
        """The loss of G, which does not saturate: the mean of -log s(D(G(z))).

        Equation (1) has G minimise log(1 - s(D(G(z)))), whose gradient vanishes while D
        wins. This form has the same fixed point and keeps its gradient, see Goodfellow
        et al. 2014, section 3, :doi:`10.48550/arXiv.1406.2661`.

        Parameters
        ----------
        D : callable
            As for `discriminator_step`.
        x, G_z : tensors of shape (n, channels, height, width)
            Real images, and generated ones with their gradient to the generator.

        Returns
        -------
        loss : scalar tensor
        """
        return softplus(-D(G_z)).mean()


#: ``adversarial_loss`` -> the loss.
ADVERSARIAL_LOSSES = {"bce": BinaryCrossEntropy()}
