"""
=============================
How AnoGAN works, in pictures
=============================

AnoGAN compares an image with the nearest one that its generator can draw. It finds that
by gradient descent on the latent code, with the generator frozen. Five pictures show
it: what the generator draws, the search, what is left of an image, what the
discriminator makes of it, and the map; a sixth shows its limit.
"""

# %%
# 1. Generated images
# -------------------
# A generator G turns latent codes z, random numbers, into images; a discriminator D
# learns to tell these from the training images, and G learns to deceive it. All
# training images are 3s here, so all that G can draw are 3s. Score and search are the
# paper's; the training is this library's, short and without its second task.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

from sklearn_anogan import AnoGANDetector
from sklearn_anogan.inspection import LatentSearchDisplay

digits = load_digits()
threes, sevens = (digits.images[digits.target == digit] for digit in (3, 7))
detector = AnoGANDetector(
    n_filters=16,
    max_epochs=600,
    self_supervision=0,
    n_candidates=1,
    search_steps=500,
    search_lr=0.05,
    anomaly_score="anogan",
    random_state=0,
).fit(threes[:90])


def draw(images, n_rows, title, labels=None, **kwargs):
    """Draw images in rows."""
    fig, axes = plt.subplots(
        n_rows,
        len(images) // n_rows,
        figsize=(6, 0.3 + 6 / len(images) * n_rows**2),
        layout="constrained",
    )
    for i, (ax, image) in enumerate(zip(axes.flat, images, strict=True)):
        drawn = ax.imshow(image, **({"cmap": "gray", "vmin": 0, "vmax": 16} | kwargs))
        ax.set(xticks=[], yticks=[])
        if labels is not None:
            ax.set_title(labels[i], fontsize=8)
    fig.suptitle(title, fontsize=10)
    return fig, axes, drawn


draw(
    np.r_[threes[:8], detector.sample(8, random_state=0)],
    2,
    "Training images above, generated ones below",
)

# %%
# 2. The latent search
# --------------------
# For a new image x, the search starts from a random code z1 and goes down the loss to
# z500. A 7 ends as the 3 that comes closest to it.

display = LatentSearchDisplay.from_estimator(
    detector, sevens[0], steps=[0, 10, 20, 50, 100, 500]
)
display.figure_.suptitle("From z1 to z500, for a 7", fontsize=10)
display.figure_.savefig("how_it_works.png", dpi=120)
print("saved how_it_works.png\n")

# %%
# 3. The residual
# ---------------
# What tells normal images from anomalies is what G could not draw: the mean of
# \|x - G(z)\|. A 3 that was not trained on leaves little, a 7 more.

# sphinx_gallery_thumbnail_number = 3
queries = np.r_[threes[90:93], sevens[:3]]
nearest = detector.reconstruct(queries)
terms = detector.score_terms(queries)
draw(
    np.r_[queries, nearest, np.abs(queries - nearest)],
    3,
    "x, G(z) and their difference; above it the residual",
    labels=[""] * 12 + [f"{each:.3f}" for each in terms.residual],
)

# %%
# 4. Feature matching
# -------------------
# A second term compares not the pixels but what an inner layer f of the discriminator
# sees in them: the mean of \|f(x) - f(G(z))\|. Each row of the picture is the features
# of an image, each column one feature, and bright what differs.

X = torch.tensor(np.stack([queries, nearest]), dtype=torch.float32) / 8 - 1
with torch.no_grad():
    f_x, f_g = (
        detector.discriminator_.features(images[:, None]).flatten(1) for images in X
    )
fig, ax = plt.subplots(figsize=(7, 2.4), layout="constrained")
ax.imshow(
    (f_x - f_g).abs().numpy(), aspect="auto", cmap="inferno", interpolation="nearest"
)
ax.set_yticks(
    range(6),
    [
        f"{digit}: {term:.3f}"
        for digit, term in zip("333777", terms.discrimination, strict=True)
    ],
)
ax.set(xlabel="feature", title="Differences of the features, and their mean")

# %%
# The loss is both together, ``(1 - w) * residual + w * discrimination``, with
# ``discrimination_weight`` for w. A score is minus the loss.

by_hand = -(0.9 * terms.residual + 0.1 * terms.discrimination)
is_same = np.allclose(by_hand, detector.score_samples(queries))
print(f"a score is minus the sum of the weighted terms: {is_same}\n")

# %%
# 5. The map
# ----------
# Pixel by pixel, the difference shows where an image is anomalous. Some places are hard
# to draw in normal images too, the edges of strokes above all: ``anomaly_map`` counts
# what goes beyond what is usual in each place.

maps = detector.anomaly_map(queries)
fig, axes, drawn = draw(maps, 1, "Anomaly maps", cmap="inferno", vmax=maps.max())
fig.colorbar(drawn, ax=axes, label="grey levels")

# %%
# The search draws anomalies too
# ------------------------------
# Both curves fall, and with every step G(z) comes closer to a 7 as well: a longer
# search is not always a better one. By default, AnoGANDetector starts from the nearest
# of 4096 generated images and takes few steps from there.

fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
steps = [0, 10, 50, 200, 500]
for label, images in {"unseen 3s": threes[90:122], "7s": sevens[:32]}.items():
    residuals = [
        detector.set_params(search_steps=n).score_terms(images).residual.mean()
        for n in steps
    ]
    ax.plot(steps, residuals, "o-", label=f"mean of {len(images)} {label}")
    print(
        f"{label:>9}: {residuals[0]:.3f} before the search, {residuals[-1]:.3f} after"
    )
ax.set(xlabel="gradient steps", ylabel="residual", ylim=(0, None))
ax.legend()

# %%
# What no latent code can draw is anomalous: the loss that is left ranks images, and the
# difference that is left marks the pixels.
