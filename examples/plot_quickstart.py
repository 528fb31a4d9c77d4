"""
==========================================
Finding digits that are not a three
==========================================

A detector learns what a handwritten 3 looks like, from half of the 3s in scikit-learn's
digits data set. Then it decides about unseen digits of all kinds: the less the detector
can imitate an image, the more abnormal the image is. This example sets a threshold
without a single anomaly, compares the ranking with scikit-learn's own detectors, and
shows where images are abnormal.
"""

# %%
# Training images of one digit, test images of all
# ------------------------------------------------
# The images are 8 pixels high and wide, with grey levels from 0 to 16. You do not have
# to scale them: the detector learns the range from the training images.

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM

from sklearn_anogan import AnoGANDetector
from sklearn_anogan.inspection import AnomalyMapDisplay

digits = load_digits()
images_train, images_test, labels_train, labels_test = train_test_split(
    digits.images, digits.target, test_size=0.5, stratify=digits.target, random_state=0
)
normal = images_train[labels_train == 3]
is_normal = labels_test == 3
print(f"{len(normal)} training images of a 3, {len(images_test)} test images, of which")
print(f"{is_normal.sum()} show a 3.\n")

# %%
# Fit and decide
# --------------
# ``fit`` trains the generator and the discriminator on normal images alone, and holds
# 39 of the 91 images out of the training. These set the threshold of ``predict``, which
# returns 1 for normal images and -1 for anomalies. Expect about 5 % of unseen normal
# images to be marked.

detector = AnoGANDetector(random_state=0).fit(normal)
is_marked = detector.predict(images_test) == -1
print(f"marked {is_marked[~is_normal].sum()} of {(~is_normal).sum()} other digits,")
print(f"and {is_marked[is_normal].sum()} of {is_normal.sum()} unseen 3s.\n")

# %%
# For another share of false alarms, compare the p-values with that share. The p-value
# of an image is the share of normal images that look at least as abnormal.

p = detector.p_values(images_test)
print("p at most   3s marked   other digits marked")
for level in (0.05, 0.1, 0.2):
    alarms, found = ((p[kind] <= level).mean() for kind in (is_normal, ~is_normal))
    print(f"{level:9.2f}   {alarms:9.1%}   {found:19.1%}")

# %%
# Compare with other detectors
# ----------------------------
# ``score_samples`` ranks. The score combines four shares of normal images: those that
# would deviate as much from what is usual in each place, those that would differ as
# much from their nearest generated image, those whose rotation and shift the
# discriminator would recognize as badly, and those that would be as far from the
# nearest normal images. As everywhere in scikit-learn, higher scores are more normal.
#
# The area under the ROC curve (AUROC) is the chance that a 3 gets a higher score than
# another digit. scikit-learn's detectors need each image as a row of 64 numbers.

scores = detector.score_samples(images_test)
aurocs = {"AnoGANDetector": roc_auc_score(is_normal, scores)}
for other in [
    IsolationForest(random_state=0),
    LocalOutlierFactor(novelty=True),
    OneClassSVM(),
]:
    other.fit(normal.reshape(-1, 64))
    other_scores = other.score_samples(images_test.reshape(-1, 64))
    aurocs[type(other).__name__] = roc_auc_score(is_normal, other_scores)

print("\ndetector              AUROC")
for name, auroc in aurocs.items():
    print(f"{name:<20}  {auroc:.3f}")

# %%
# See where
# ---------
# Each column shows an image with its score, the nearest image that the generator can
# draw, and the map, drawn over the image. In each pixel, the map counts the standard
# deviations by which an image deviates more than normal images do there. All maps share
# one colour scale.

order = np.argsort(scores)
shown = np.r_[order[:4], order[-3:]]
display = AnomalyMapDisplay.from_predictions(
    images_test[shown],
    detector.anomaly_map(images_test[shown]),
    reconstructions=detector.reconstruct(images_test[shown]),
    scores=scores[shown],
)
display.figure_.suptitle(
    "Score and anomaly map of the four most and the three least abnormal digits"
)
display.figure_.savefig("quickstart.png", dpi=120)
print("\nsaved quickstart.png")

# %%
# The detector ranks the other digits below the 3s for three reasons. Their strokes are
# where 3s have none. The generator was trained on 3s only, so it draws only what
# resembles a 3. And the discriminator cannot tell which way up the other digits are.
