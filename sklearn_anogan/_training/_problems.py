# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What went wrong in a training, judged in the end."""

import numpy as np

#: The diversity that a trained generator should have, at least. Columns with long tails
#: or seldom other than 0 leave less to a generator of rows that has not collapsed.
_LEAST_DIVERSITY, _OF_ROWS = 0.5, 0.2

#: Mean loss of an epoch that is beyond all that was seen in trainings that went well.
_LARGEST_LOSS = 100

#: Difference of D(x) and D(G(z)) at which the discriminator has won, and at which it
#: knows its images by heart if it has more weights than there are numbers in them.
_WINNING_GAP, _FEW_IMAGES_GAP = 0.98, 0.9


def find_problems(net, n_values, are_rows=False):
    """What went wrong in the training of a GAN, in words for the user.

    The losses and the discriminator's answers of the last tenth of the epochs are
    judged, and the diversity of the final generator, which is put into the history.

    Parameters
    ----------
    net : GANNet
        Trained.
    n_values : int
        Numbers in all training images together.
    are_rows : bool
        Whether the images are rows of numbers.

    Returns
    -------
    problems : list of str
    """
    history = net.history
    diversity = dict(net.callbacks_)["diversity"].measure(net)
    history.record("diversity", diversity)
    last = history[-max(1, len(history) // 10) :]
    loss_D, loss_G, _, d_real, d_fake = (
        float(np.mean([epoch[name] for epoch in last])) for name in net.record_names
    )
    n_weights = sum(p.numel() for p in net.discriminator_.parameters())
    n_steps = sum(epoch["train_batch_count"] for epoch in history)
    answers = (
        f"D(x) = {d_real:.3f} for training images, D(G(z)) = {d_fake:.3f} for generated"
    )
    problems = []
    if max(abs(loss_D), abs(loss_G)) > _LARGEST_LOSS:
        problems.append(
            f"The losses have exploded: discriminator_loss = {loss_D:.3g}, "
            f"generator_loss = {loss_G:.3g}. Lower the learning rate, lr={net.lr}."
        )
    elif d_real - d_fake > _FEW_IMAGES_GAP and n_values < n_weights:
        problems.append(
            f"The images are too few for networks of this width: the discriminator "
            f"knows them by heart, {answers} ones. Its {n_weights} weights face "
            f"{n_values} numbers in the images. Use more images or a smaller n_filters."
        )
    elif d_real - d_fake > _WINNING_GAP:
        problems.append(
            f"The discriminator has won: {answers} ones, so that the generator learns "
            "little from it. Use a smaller lr or more images, or look whether "
            "something in the images is out of a generator's reach, such as noise."
        )
    if diversity < (_OF_ROWS if are_rows else _LEAST_DIVERSITY):
        problems.append(
            "The generator has collapsed or is not trained yet: after "
            f"{n_steps} steps its images differ from each other {diversity:.2f} times "
            "as much as the training images do. Look at sample(), train for more "
            "epochs, or try another lr, n_filters or random_state."
        )
    return problems
