"""
==============================
A folder of your own images
==============================

From a folder of normal images to a verdict and a map for each new one: read the images,
fit, look, set a threshold. The folders here are filled with handwritten digits; put
your own in their place.
"""

# %%
# Three folders
# -------------
# One with normal images only, here of a 3, one with new images, and one with a few
# normal images that are kept for the masks. Nobody has to say what is wrong with new
# images; here the names of the files do, so that we can check the verdicts.

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from sklearn_anogan import AnoGANDetector
from sklearn_anogan.inspection import AnomalyMapDisplay, TrainingDisplay

digits = load_digits()
threes = np.random.RandomState(0).permutation(np.flatnonzero(digits.target == 3))
others = np.flatnonzero(digits.target != 3)[:60]
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
for name, chosen in {
    "normal": threes[:130],
    "kept": threes[130:150],
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
# All get the same size and number of channels. The smaller they are, the faster is the
# training: of photographs, 32 to 64 pixels along a side are a good start.
# ``convert("RGB")`` keeps colours. With scikit-image, an image is read by
# ``resize(imread(path, as_gray=True), (16, 16), anti_aliasing=True)``.


def read(folder, width=16, height=16):
    """Images of shape (n, height, width), and the names of their files."""
    paths = sorted(folder.glob("*.png"))
    images = [Image.open(path).convert("L").resize((width, height)) for path in paths]
    return np.stack([np.asarray(image) for image in images]), [p.stem for p in paths]


X_normal, _ = read(folder / "normal")
X_new, names = read(folder / "new")
print(f"{X_normal.shape}, {X_normal.dtype}")

# %%
# Fit, and see whether it has learned
# -----------------------------------
# Narrow networks and fewer steps than by default keep the example short. In a healthy
# training neither loss runs away, and the diversity of the generated images comes near
# that of the training images.

detector = AnoGANDetector(n_filters=16, max_epochs=400, random_state=0).fit(X_normal)
TrainingDisplay.from_estimator(detector).figure_.suptitle("Training")

# %%
# A verdict for each image
# ------------------------
# A p-value of 0.1 says that one normal image in ten looks as abnormal as this one: if
# all images below it are marked, that is the largest share of false alarms to expect,
# in the mean over fits. It is a cautious promise with so few images: 13 of the 130 are
# held out to tell, so that p-values come in steps of 1 / 14, and a single odd one among
# them takes up the first step. With more images, smaller shares do.

p = detector.p_values(X_new)
is_anomalous = np.array(["a 3" not in name for name in names])
print("p at most   3s marked   other digits marked")
for level in (0.1, 0.2, 0.3):
    alarms, found = (
        (p[kind] <= level).mean() for kind in (~is_anomalous, is_anomalous)
    )
    print(f"{level:9.1f}   {alarms:9.0%}   {found:19.0%}")

scores = detector.score_samples(X_new)
print("\nthe most abnormal ones:")
for i in np.argsort(scores)[:5]:
    print(f"  {names[i]}, score {scores[i]:.1f}")

# %%
# See where
# ---------
# The threshold of a mask comes from normal images too, from those that were kept: on
# images of ``fit`` the maps would be too small.

# sphinx_gallery_thumbnail_number = 2
X_kept, _ = read(folder / "kept")
threshold = detector.map_threshold(X_kept, false_positive_rate=0.01)
temporary.cleanup()

order = np.argsort(scores)
shown = np.r_[order[:4], order[-3:]]
maps = detector.anomaly_map(X_new[shown])
display = AnomalyMapDisplay.from_predictions(
    X_new[shown],
    maps,
    reconstructions=detector.reconstruct(X_new[shown]),
    masks=maps > threshold,
    scores=scores[shown],
)
display.figure_.suptitle(
    "Most and least abnormal images; contours hold what is above the threshold"
)
display.figure_.savefig("folder.png", dpi=120)
print("\nsaved folder.png")

# %%
# Some lines of code lead from a folder to verdicts and maps, and normal images alone
# set both thresholds.
