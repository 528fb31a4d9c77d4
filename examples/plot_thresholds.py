"""
===========================================
Thresholds: how many false alarms are right
===========================================

Scores rank images; a decision needs a threshold. Without labelled anomalies, held-out
normal images can set the threshold: they show how many normal images would be taken for
anomalies. `p_values` gives this share for each image.
"""

# %%
# Fit to normal images
# --------------------
# Digits from 0 to 4 are normal, digits from 5 to 9 are anomalies. Of the 600 images
# given to ``fit``, 99 are held out of the training.

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import false_discovery_control
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_anogan import AnoGANDetector

digits = load_digits()
normal = digits.images[digits.target < 5]
anomalous = digits.images[digits.target >= 5]
X_train, unseen = train_test_split(normal, train_size=600, random_state=0)
detector = AnoGANDetector(n_filters=16, random_state=0).fit(X_train)

# %%
# A false-alarm table
# -------------------
# The p-value of an image is the share of normal images that look at least as abnormal,
# among the held-out images and the image itself. ``p_values(X) <= a`` takes at most a
# share a of unseen normal images for anomalies, in the mean over fits. A single fit may
# mark a few more or fewer, because 99 held-out images are a small sample.

p_unseen = detector.p_values(unseen)
p_anomalous = detector.p_values(anomalous)
levels = [0.01, 0.05, 0.1, 0.2]
print("p at most   normal images marked   anomalies found")
for level in levels:
    shares = [(p <= level).mean() for p in (p_unseen, p_anomalous)]
    print(f"{level:9.2f}   {shares[0]:20.1%}   {shares[1]:15.1%}")

# %%
# The threshold of ``predict``
# ----------------------------
# With ``contamination="auto"``, ``predict`` allows for 5 % false alarms, judged by the
# same held-out images. A number as ``contamination`` means the same as everywhere in
# scikit-learn: the share of the images of ``fit`` that lie beyond the threshold.

alarms = (detector.predict(unseen) == -1).mean()
print(f"\ncontamination='auto': {alarms:.1%} of unseen normal images are marked")

# %%
# Many images at once
# -------------------
# If somebody looks at every marked image, the share of false alarms *among the marked
# images* counts, the false discovery rate. It depends on how many anomalies there are.
# The procedure of Benjamini and Hochberg finds the level that keeps it below a limit,
# in the mean over fits. Here 100 of 380 new images are anomalies, and later 20 of 300.

rng = np.random.RandomState(0)
normal_p, anomalous_p = rng.permutation(p_unseen)[:280], rng.permutation(p_anomalous)
for n in (100, 20):
    adjusted = false_discovery_control(np.r_[normal_p, anomalous_p[:n]])
    is_marked = adjusted <= 0.2
    n_alarms, n_found = is_marked[:280].sum(), is_marked[280:].sum()
    print(
        f"\n{n_found} of {n} anomalies and {n_alarms} of 280 normal images are marked"
    )

# %%
# With 20 anomalies, no level would do: no p-value is below 1 / 100, and at that level
# about three normal images are marked beside one or two anomalies. More held-out images
# make smaller p-values possible.

# %%
# Draw the p-values
# -----------------
# The p-values of unseen normal images spread evenly between 0 and 1, as they should.
# The p-values of anomalies crowd at the lower end.

fig, axes = plt.subplots(1, 2, figsize=(7.5, 3.2), layout="constrained")
for p, label in ((p_unseen, "unseen normal"), (p_anomalous, "anomalies")):
    axes[0].hist(p, np.linspace(0, 1, 21), density=True, alpha=0.6, label=label)
axes[0].axhline(1, color="black", linewidth=0.8)
axes[0].set(xlabel="p-value", ylabel="density", title="p-values")
axes[0].legend()
grid = np.linspace(0, 0.3, 61)
for p, label in ((p_unseen, "unseen normal"), (p_anomalous, "anomalies")):
    axes[1].plot(grid, [(p <= a).mean() for a in grid], label=label)
axes[1].plot(grid, grid, color="black", linewidth=0.8, label="promised at most")
axes[1].set(xlabel="a", ylabel="share with p at most a", title="Marked at a threshold")
axes[1].legend()
fig.savefig("thresholds.png", dpi=120)
print("saved thresholds.png")

# %%
# You need no anomalies to set a threshold: choose the share of false alarms that you
# accept, and compare the p-values with it.
