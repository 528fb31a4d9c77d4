"""
=============================
How AnoGAN works, in pictures
=============================

AnoGAN compares an image with the nearest image that its generator can draw. A search by
gradient descent on the latent code finds this nearest image, with the generator frozen.
Five pictures show generated images, the search, the residual, the features of the
discriminator, and the map. A sixth picture shows the limit of the method.
"""

# %%
# 1. Generated images
# -------------------
# A generator G turns random numbers, the latent codes z, into images. A discriminator D
# learns to tell generated images from training images, and G learns to deceive D. All
# training images here are 3s, so G can only draw 3s. Score and search are the paper's.
# The training is this library's, but short and without the second task.

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
# For a new image x, the search starts from a random code z1 and reduces the loss until
# z500. For a 7, the search ends at the 3 that comes closest to the 7.

display = LatentSearchDisplay.from_estimator(
    detector, sevens[0], steps=[0, 10, 20, 50, 100, 500]
)
display.figure_.suptitle("From z1 to z500, for a 7", fontsize=10)
display.figure_.savefig("how_it_works.png", dpi=120)
print("saved how_it_works.png\n")

# %%
# 3. The residual
# ---------------
# The residual, the mean of \|x - G(z)\|, measures what G could not draw. It tells
# normal images from anomalies: it is small for an unseen 3, and larger for a 7.

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
# The second term does not compare pixels, but features from an inner layer f of the
# discriminator: the mean of \|f(x) - f(G(z))\|. In the picture, each row is an image
# and each column a feature. Bright features differ.

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
# The loss combines both terms: ``(1 - w) * residual + w * discrimination``, where w is
# ``discrimination_weight``. The score is minus the loss.

by_hand = -(0.9 * terms.residual + 0.1 * terms.discrimination)
is_same = np.allclose(by_hand, detector.score_samples(queries))
print(f"a score is minus the sum of the weighted terms: {is_same}\n")

# %%
# 5. The map
# ----------
# The difference in each pixel shows where an image is anomalous. Some places are hard
# to draw in normal images too, above all the edges of strokes. So ``residual_map``
# takes the difference relative to what is usual in each place.

maps = detector.residual_map(queries)
fig, axes, drawn = draw(
    maps, 1, "Maps of the residual", cmap="inferno", vmax=maps.max()
)
fig.colorbar(drawn, ax=axes, label="grey levels")

# %%
# The search draws anomalies too
# ------------------------------
# Both curves fall: during the search, G(z) comes closer to a 7 as well. So a longer
# search is not always better. By default, AnoGANDetector starts from the nearest of
# 4096 generated images and takes few steps from there.

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
# What no latent code can draw is anomalous. The remaining loss ranks images, and the
# remaining difference marks the pixels.
