"""
============================================
Healthy, unfinished and collapsed trainings
============================================

What the search cannot draw looks anomalous, so the generator has to draw all that is
normal. Three trainings on the same images of the digit 8 show how to tell a good
training from a bad one.
"""

# %%
# Three trainings
# ---------------
# The first training is healthy. The second ends too early. The third has a learning
# rate that is a hundred times too high: the discriminator learns the images by heart,
# and the generator learns nothing. In both cases, ``fit`` warns and says what to do.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from sklearn_anogan import AnoGANDetector

digits = load_digits()
eights = digits.images[digits.target == 8]
X_train, X_test = eights[:130], np.r_[eights[130:], digits.images[digits.target != 8]]
is_normal = np.arange(len(X_test)) < len(eights) - 130

trainings = {
    "healthy": {"max_epochs": 400},
    "too short": {"max_epochs": 20},
    "learning rate too high": {"max_epochs": 400, "lr": 0.08},
}
detectors = {}
for name, settings in trainings.items():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detectors[name] = AnoGANDetector(n_filters=16, random_state=0, **settings).fit(
            X_train
        )
    auroc = roc_auc_score(is_normal, detectors[name].score_samples(X_test))
    print(f"{name}: AUROC {auroc:.3f}")
    for warning in caught:
        print(f"  {warning.category.__name__}: {warning.message}")

# %%
# Look at generated images
# ------------------------
# Generated images say the most about a training. A healthy generator draws images that
# could be training images, and each one is different. An unfinished generator draws
# grey images. A collapsed generator draws the same image again and again.

fig, axes = plt.subplots(3, 7, figsize=(6, 2.6), layout="constrained")
for row, (name, detector) in zip(axes, detectors.items(), strict=True):
    for ax, image in zip(row, detector.sample(7, random_state=0), strict=True):
        ax.imshow(image, cmap="gray", vmin=0, vmax=16)
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(
        name.replace(" too", "\ntoo"), rotation=0, ha="right", va="center"
    )
fig.suptitle("Generated images")
fig.savefig("training.png", dpi=120)
print("\nsaved training.png")

# %%
# Look at the history
# -------------------
# ``history_`` says the same in numbers. The diversity is the mean distance from a
# generated image to the nearest other one, relative to the same distance among training
# images. In a healthy training, it comes near 1; below 0.5, ``fit`` warns. (The
# diversity is measured every 100 steps.) The discriminator should be in doubt. If it
# gives all training images a probability of being real of 1, and all generated images
# one of 0, the generator learns nothing any more.
# :class:`~sklearn_anogan.inspection.TrainingDisplay` plots the history of one training.

fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for name, detector in detectors.items():
    history = detector.history_
    epochs = history[:, "epoch"]
    axes[0].plot(epochs, history[:, "diversity"], label=name)
    certainty = np.subtract(history[:, "d_real"], history[:, "d_fake"])
    axes[1].plot(epochs, certainty, label=name)
axes[0].axhline(0.5, color="0.8", zorder=0)
axes[0].set(xlabel="epoch", ylabel="diversity", ylim=(0, None))
axes[1].set(xlabel="epoch", ylabel="D(x) - D(G(z))", ylim=(None, 1.02))
axes[0].legend(fontsize=8)

# %%
# Look at generated images first. If they are bad, train longer, with a lower learning
# rate, or on more images, before you tune anything else.
