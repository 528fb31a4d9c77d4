"""
==============================================
Marking fluid and bright foci in retinal scans
==============================================

AnoGAN was made for this task: trained on patches of healthy scans, it marks in new
scans what it has never seen. The scans here are synthetic, so that we know which pixels
are anomalous. They are good for an example, but for nothing medical.
"""

# %%
# Healthy scans for training
# --------------------------
# Half of the new scans have an anomaly: dark fluid below or within the retina, or
# bright foci.

import numpy as np
from sklearn.metrics import roc_auc_score

from sklearn_anogan import AnoGANDetector, PatchDetector
from sklearn_anogan.datasets import make_retina
from sklearn_anogan.inspection import AnomalyMapDisplay

shape = (64, 96)
healthy = make_retina(200, shape, random_state=0)
new = make_retina(40, shape, anomalous=0.5, random_state=1)

# %%
# Fit to patches
# --------------
# The detector is trained on 2000 patches from random places. The patches are large
# enough to show the surroundings of a dark spot, which could be vitreous or fluid. They
# are shrunk to half their size, which evens out the speckle.

detector = PatchDetector(
    AnoGANDetector(n_filters=16, max_epochs=60),
    patch_shape=32,
    stride=8,
    downsampling=2,
    n_patches=2000,
    random_state=0,
).fit(healthy.images)

# %%
# Mark the anomalies
# ------------------
# The maps of overlapping patches are blended into one map. Raw brightness finds
# anomalies less well: fluid is dark, but so is the vitreous; foci are bright, but so
# are some layers.

maps = detector.anomaly_map(new.images)
rankings = {
    "PatchDetector(AnoGANDetector)": maps,
    "distance from the mean brightness": np.abs(new.images - healthy.images.mean()),
}
print("AUROC of the pixels of all new scans")
for name, ranking in rankings.items():
    print(f"  {name:<33}  {roc_auc_score(new.masks.ravel(), ranking.ravel()):.3f}")

# %%
# The healthy scans that ``fit`` has held out of the training set the threshold of a
# mask: this share of their pixels is above.

threshold = detector.map_threshold(false_positive_rate=0.01)
found = (maps > threshold)[new.masks].mean()
mistaken = (maps > threshold)[new.target == 1].mean()
print(f"\n{found:.0%} of the anomalous pixels are found; of new healthy scans,")
print(f"{mistaken:.1%} of the pixels are marked by mistake")

# %%
# The contours show what is truly anomalous.

shown = [0, *np.flatnonzero(new.target == -1)[:3]]
display = AnomalyMapDisplay.from_predictions(
    new.images[shown], maps[shown], masks=new.masks[shown]
)
for ax, kind in zip(display.axes_[0], new.kinds[shown], strict=True):
    ax.set_title(kind, fontsize=8)
display.figure_.suptitle("Anomaly maps of new scans; contours show the truth")
display.figure_.savefig("retina_patches.png", dpi=120)
print("\nsaved retina_patches.png")

# %%
# The detector was trained on healthy scans alone. It marks fluid and foci, although it
# has never seen either.
