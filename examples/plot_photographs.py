"""
======================================
Finding what does not belong in a wall
======================================

Photographs of a surface show no two places alike, and what is wrong covers few pixels.
This example learns a brick wall from one photograph. Then grass grows on some bricks,
gravel lies in others, and a crack runs through a third.
"""

# %%
# One photograph, many images
# ---------------------------
# The photographs come with scikit-image. The wall is cut into windows of 32 x 32
# pixels. Windows do not overlap: images that share pixels are near-copies, and a
# threshold that is set by near-copies of the training images is too tight.

import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.data import brick, grass, gravel
from skimage.util import view_as_blocks
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from sklearn_anogan import AnoGANDetector
from sklearn_anogan.inspection import AnomalyMapDisplay

side = 32


def windows(photograph):
    """All windows, (n, side, side)."""
    return view_as_blocks(photograph, (side, side)).reshape(-1, side, side)


normal, unseen = train_test_split(windows(brick()), test_size=0.4, random_state=0)

# %%
# Three kinds of defects
# ----------------------
# A part of another photograph replaces a round spot with soft edges, as bright on the
# average as the bricks that it covers, so that brightness alone does not give it away.
# The crack is a dark line, two pixels wide.

rng = np.random.RandomState(0)
down, right = np.mgrid[:side, :side]


def spot():
    """A round mask with soft edges, at a random place."""
    i, j = rng.randint(8, side - 8, size=2)
    return gaussian_filter((np.hypot(down - i, right - j) < 6).astype(float), 1)


def overgrown(image, photograph):
    mask, other = spot(), rng.permutation(windows(photograph))[0].astype(float)
    covered = mask > 0.5
    other += image[covered].mean() - other[covered].mean()
    return (1 - mask) * image + mask * other, covered


def cracked(image):
    i, slope = rng.randint(8, side - 8), rng.uniform(-0.4, 0.4)
    bend = 2 * np.sin(right / 5)
    mask = (np.abs(down - i - slope * (right - side / 2) - bend) < 1) & (right > 8)
    return np.where(mask, 0.6 * image, image), mask


makers = {
    "grass": lambda image: overgrown(image, grass()),
    "gravel": lambda image: overgrown(image, gravel()),
    "crack": cracked,
}
kinds = np.repeat([*makers], 20)
damaged, masks = zip(
    *(makers[kind](image) for kind, image in zip(kinds, unseen, strict=False)),
    strict=True,
)
damaged, masks = np.clip(damaged, 0, 255).astype(np.uint8), np.stack(masks)
intact = unseen[len(kinds) :]

# %%
# Fit and score
# -------------
# The networks train for a moment only. What finds small defects is the ruler of places,
# which takes no training: see :doc:`/guide/how_it_works`.

detector = AnoGANDetector(n_filters=8, max_epochs=120, random_state=0).fit(normal)
scores = detector.score_samples(np.concatenate([damaged, intact]))
is_damaged = np.arange(len(scores)) < len(damaged)
print(f"AUROC of the images: {roc_auc_score(is_damaged, -scores):.3f}")
maps = detector.anomaly_map(damaged)
print(f"AUROC of the pixels: {roc_auc_score(masks.ravel(), maps.ravel()):.3f}")
for kind in makers:
    of_kind = kinds == kind
    auroc = roc_auc_score(masks[of_kind].ravel(), maps[of_kind].ravel())
    print(f"  {kind:<6}: {auroc:.3f}")

# %%
# The contours show the truth.

shown = [0, 1, 20, 21, 40, 41]
display = AnomalyMapDisplay.from_predictions(
    damaged[shown], maps[shown], masks=masks[shown]
)
for ax, kind in zip(display.axes_[0], kinds[shown], strict=True):
    ax.set_title(kind, fontsize=8)
display.figure_.suptitle("Damaged walls, and maps of what is unusual; contours: truth")
display.figure_.savefig("photographs.png", dpi=120)
print("\nsaved photographs.png")

# %%
# The detector has seen neither grass nor gravel nor cracks: it knows intact bricks
# only.
