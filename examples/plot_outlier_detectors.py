"""
================================
Outlier detectors side by side
================================

scikit-learn compares its outlier detectors on sets of points in the plane. This example
adds `AnoGANDetector` to the comparison: first on points, which it takes as rows of two
numbers, then on images, for which it is made.
"""

# %%
# Points in the plane
# -------------------
# All detectors are fitted to 240 normal points. Another 60 points, the outliers, are
# spread evenly over the square. On the line, the decision function is 0.

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, make_blobs, make_moons
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM

from sklearn_anogan import AnoGANDetector

detectors = {
    "IsolationForest": IsolationForest(contamination=0.05, random_state=0),
    "LocalOutlierFactor": LocalOutlierFactor(novelty=True, contamination=0.05),
    "OneClassSVM": OneClassSVM(nu=0.05),
    "AnoGANDetector": AnoGANDetector(
        contamination=0.05, latent_dim=8, lr=5e-4, max_epochs=150, random_state=0
    ),
}
blobs, _ = make_blobs(
    240, centers=[[-2, -2], [2, 2]], cluster_std=[0.5, 0.9], random_state=0
)
moons, _ = make_moons(240, noise=0.05, random_state=0)
point_sets = {"two blobs": blobs, "two moons": 4 * (moons - [0.5, 0.25])}
outliers = np.random.RandomState(0).uniform(-6, 6, size=(60, 2))
plane = np.stack(np.meshgrid(*[np.linspace(-7, 7, 60)] * 2), axis=-1).reshape(-1, 2)

fig, axes = plt.subplots(2, 4, figsize=(10, 5.2), layout="constrained")
for row, (of_points, points) in zip(axes, point_sets.items(), strict=True):
    row[0].set_ylabel(of_points)
    for ax, (name, detector) in zip(row, detectors.items(), strict=True):
        decision = detector.fit(points).decision_function(plane).reshape(60, 60)
        ax.contour(*plane.T.reshape(2, 60, 60), decision, [0], colors="k")
        ax.scatter(*points.T, s=4, label="normal")
        ax.scatter(*outliers.T, s=4, color="C3", label="outliers")
        scores = detector.score_samples(np.r_[points, outliers])
        auroc = roc_auc_score(np.repeat([1, 0], [240, 60]), scores)
        ax.set(xticks=[], yticks=[], title=f"{name}\nAUROC {auroc:.3f}")
axes[0, 0].legend(fontsize=8)
fig.savefig("outlier_detectors.png", dpi=120)
print("saved outlier_detectors.png")

# %%
# Images
# ------
# Images of a 3 are normal, all other digits are anomalies. scikit-learn's detectors get
# the pixels as rows.

digits = load_digits()
threes = digits.images[digits.target == 3]
X_test = np.concatenate([threes[90:], digits.images[digits.target != 3]])
is_normal = np.arange(len(X_test)) < len(threes) - 90
detectors["AnoGANDetector"] = AnoGANDetector(
    n_filters=16, max_epochs=600, random_state=0
)
print("\ndetector              AUROC  seconds")
for name, detector in detectors.items():
    begun = time.perf_counter()
    takes_images = name == "AnoGANDetector"
    X, X_new = (A if takes_images else A.reshape(-1, 64) for A in (threes, X_test))
    scores = detector.fit(X[:90]).score_samples(X_new)
    auroc = roc_auc_score(is_normal, scores)
    print(f"{name:<20}  {auroc:.3f}  {time.perf_counter() - begun:7.1f}")

# %%
# For points in the plane, or if time is short, use a classical detector. On these
# images, AnoGANDetector is slightly better, but takes far more time.
