"""
==========================================
Tuning a pipeline with GridSearchCV
==========================================

`AnoGANDetector` works on flattened images too, so that it can stand behind a scaler in
a pipeline and be tuned by scikit-learn's grid search. Training needs no labels; the
grid search does, to know which parameters find the anomalies best.
"""

# %%
# Flattened images, and labels for the tuning
# -------------------------------------------
# Images of an 8 are normal. With 1 for normal images and -1 for anomalies, the labels
# that `predict` answers with, ``scoring="roc_auc"`` means what it says; with 1 for
# anomalies it would be upside down without a word.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from sklearn_anogan import AnoGANDetector

X, digit = load_digits(return_X_y=True)  # rows of 64 grey levels
y = np.where(digit == 8, 1, -1)
X_tune, X_test, y_tune, y_test = train_test_split(
    X, y, test_size=0.5, stratify=y, random_state=0
)

# %%
# Train on normal images only
# ---------------------------
# The folds of ``StratifiedKFold`` have both kinds of images in their training part.
# The detector must see the normal ones alone, so we leave the anomalies out of it.

folds = [
    (train[y_tune[train] == 1], test)
    for train, test in StratifiedKFold(2).split(X_tune, y_tune)
]

# %%
# Search
# ------
# ``image_shape`` turns the rows that leave the scaler into images again. The grid
# varies how far the latent search goes, and what the score is made of: the paper's loss
# of an image, or what held-out normal images say of its terms.

pipeline = Pipeline(
    [
        ("scale", MinMaxScaler()),
        (
            "detect",
            AnoGANDetector(
                image_shape=(8, 8), n_filters=16, max_epochs=300, random_state=0
            ),
        ),
    ]
)
grid = {
    "detect__search_steps": [5, 20, 80],
    "detect__anomaly_score": ["anogan", "calibrated"],
}
search = GridSearchCV(pipeline, grid, scoring="roc_auc", cv=folds, refit=False)
search.fit(X_tune, y_tune)

results = search.cv_results_
print("steps  score       AUROC")
for parameters, auroc in zip(
    results["params"], results["mean_test_score"], strict=True
):
    steps, kind = (parameters[name] for name in grid)
    print(f"{steps:5d}  {kind:<10}  {auroc:.3f}")

# %%
# Fit the best pipeline on all normal images
# ------------------------------------------
# ``refit=False`` above because the grid search would fit on the anomalies as well.

best = pipeline.set_params(**search.best_params_).fit(X_tune[y_tune == 1])
auroc = roc_auc_score(y_test, best.decision_function(X_test))
print(f"\nbest parameters: {search.best_params_}")
print(f"AUROC on images neither trained nor tuned on: {auroc:.3f}")

# %%
# Draw the grid
# -------------
# The bars are the standard deviation over the folds. Folds with some forty normal
# images to train on tell apart large differences only.

fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for kind in grid["detect__anomaly_score"]:
    chosen = results["param_detect__anomaly_score"] == kind
    ax.errorbar(
        results["param_detect__search_steps"][chosen].astype(int),
        results["mean_test_score"][chosen],
        results["std_test_score"][chosen],
        marker="o",
        capsize=3,
        label=f"anomaly_score={kind!r}",
    )
ax.set_xscale("log")
ax.set_xticks(grid["detect__search_steps"], grid["detect__search_steps"])
ax.minorticks_off()
ax.set(xlabel="search_steps", ylabel="AUROC, mean over the folds")
ax.set_title("Tuning the search and the score")
ax.legend(loc="center right")
fig.savefig("pipeline_gridsearch.png", dpi=120)
print("saved pipeline_gridsearch.png")

# %%
# A detector in a pipeline is tuned like any other estimator of scikit-learn, as long
# as the folds keep anomalies out of its training.
