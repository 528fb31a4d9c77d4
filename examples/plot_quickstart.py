"""
==========================================
Finding digits that are not a three
==========================================

A detector learns what a handwritten 3 looks like, from half of the 3s in scikit-learn's
digits data set. Then it scores unseen digits of all kinds: the less the detector can
imitate an image, the more abnormal the image is. This example compares the ranking with
scikit-learn's own detectors, and shows where images are abnormal.
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
# Fit and score
# -------------
# ``fit`` trains the generator and the discriminator on the normal images alone. For
# each test image, ``score_samples`` searches the nearest generated image. The score
# combines two shares of normal images: those that would differ as much from their
# nearest generated image, and those that the discriminator would recognize as badly.
# (It has learned to recognize how a 3 was rotated and shifted.) As everywhere in
# scikit-learn, higher scores are more normal.

detector = AnoGANDetector(random_state=0).fit(normal)
scores = detector.score_samples(images_test)

# %%
# Compare with other detectors
# ----------------------------
# The area under the ROC curve (AUROC) is the chance that a 3 gets a higher score than
# another digit. scikit-learn's detectors need each image as a row of 64 numbers.

aurocs = {"AnoGANDetector": roc_auc_score(is_normal, scores)}
for other in [
    IsolationForest(random_state=0),
    LocalOutlierFactor(novelty=True),
    OneClassSVM(),
]:
    other.fit(normal.reshape(-1, 64))
    other_scores = other.score_samples(images_test.reshape(-1, 64))
    aurocs[type(other).__name__] = roc_auc_score(is_normal, other_scores)

print("detector              AUROC")
for name, auroc in aurocs.items():
    print(f"{name:<20}  {auroc:.3f}")

# %%
# ``predict`` puts a threshold on the scores, and returns 1 for normal images and -1 for
# anomalies. By default, about 5 % of unseen normal images should fall below the
# threshold, which ``fit`` sets with images held out of the training. Here only ten of
# 91 images are held out, and the threshold is the score of the least normal one. Such a
# threshold is a rough guess. With more training images, more images are held out.

is_anomaly = detector.predict(images_test) == -1
print(f"\nfound {is_anomaly[~is_normal].sum()} of {(~is_normal).sum()} other digits,")
print(
    f"with {is_anomaly[is_normal].sum()} false alarms for {is_normal.sum()} unseen 3s."
)

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
