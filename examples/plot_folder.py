"""
==============================
A folder of your own images
==============================

This example goes from a folder of normal images to a verdict and a map for each new
image: read the images, fit, look, set a threshold. The folders here hold handwritten
digits; use your own folders instead.
"""

# %%
# Two folders
# -----------
# The first folder has normal images only, here of a 3. The second has new images, which
# need no labels. Here the file names tell the digit, so that we can check the verdicts.

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from sklearn_anogan import AnoGANDetector
from sklearn_anogan.datasets import load_images
from sklearn_anogan.inspection import AnomalyMapDisplay, TrainingDisplay

digits = load_digits()
threes = np.random.RandomState(0).permutation(np.flatnonzero(digits.target == 3))
others = np.flatnonzero(digits.target != 3)[:60]
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
for name, chosen in {
    "normal": threes[:150],
    "new": np.r_[threes[150:], others],
}.items():
    (folder / name).mkdir()
    for i in chosen:
        image = (digits.images[i] * 255 / 16).astype(np.uint8)
        path = folder / name / f"{i:04d} a {digits.target[i]}.png"
        Image.fromarray(image).save(path)

# %%
# Read the images
# ---------------
# All images get the same size and number of channels; an int as ``size`` is height and
# width. For photographs, 128 pixels show small defects. Files are read when they are
# needed.

X_normal = load_images(folder / "normal", size=16)
X_new = load_images(folder / "new", size=16)
names = [path.stem for path in X_new.paths]
print(X_normal)

# %%
# Fit, and see whether it has learned
# -----------------------------------
# Narrow networks and fewer steps than by default keep the example short. In a healthy
# training, neither loss runs away, and the generated images become about as diverse as
# the training images.

detector = AnoGANDetector(n_filters=16, max_epochs=400, random_state=0).fit(X_normal)
TrainingDisplay.from_estimator(detector).figure_.suptitle("Training")

# %%
# A verdict for each image
# ------------------------
# A p-value of 0.1 says that one normal image in ten looks at least as abnormal. If you
# mark all images with a p-value of at most 0.1, expect at most 10 % false alarms, in
# the mean over fits. Of the 150 images, 39 are held out of the training to compare
# with, so that p-values come in steps of 1 / 40. ``detector.predict(X_new)`` does about
# what a level of 0.05 does. The share of 3s that is marked varies from one choice of
# the images to the next: by 3.4 % for a level of 0.05, and more where only 33 unseen 3s
# are counted.

p = detector.p_values(X_new)
is_anomalous = np.array(["a 3" not in name for name in names])
print("p at most   3s marked   other digits marked")
for level in (0.05, 0.1, 0.2):
    alarms, found = (
        (p[kind] <= level).mean() for kind in (~is_anomalous, is_anomalous)
    )
    print(f"{level:9.2f}   {alarms:9.0%}   {found:19.0%}")

scores = detector.score_samples(X_new)
print("\nthe most abnormal ones:")
for i in np.argsort(scores)[:5]:
    print(f"  {names[i]}, score {scores[i]:.1f}")

# %%
# See where
# ---------
# The held-out images set the threshold of a mask too: 99 % of the pixels of normal
# images are below.

# sphinx_gallery_thumbnail_number = 2
threshold = detector.map_threshold(false_positive_rate=0.01)

order = np.argsort(scores)
shown = order[np.linspace(0, len(order) - 1, 7).astype(int)]
maps = detector.anomaly_map(X_new[shown])
display = AnomalyMapDisplay.from_predictions(
    X_new[shown],
    maps,
    reconstructions=detector.reconstruct(X_new[shown]),
    masks=maps > threshold,
    scores=scores[shown],
)
display.figure_.suptitle(
    "From the most to the least abnormal image; contours: above the threshold"
)
display.figure_.savefig("folder.png", dpi=120)
print("\nsaved folder.png")
temporary.cleanup()

# %%
# A few lines of code lead from a folder to verdicts and maps. Normal images alone set
# both thresholds.
