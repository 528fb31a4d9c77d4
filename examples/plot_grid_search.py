"""
==========================================
Tuning a pipeline with GridSearchCV
==========================================

`AnoGANDetector` also works on flattened images. You can put it behind a scaler in a
pipeline, and tune it by scikit-learn's grid search. Training needs no labels, but the
grid search needs labels to tell which parameters find the anomalies best.
"""

# %%
# Flattened images, and labels for the tuning
# -------------------------------------------
# Images of an 8 are normal. The labels name the kind of image, as labels in real life
# do: labels need not be 1 and -1.

import tempfile

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from sklearn_anogan import AnoGANDetector
from sklearn_anogan.model_selection import InlierSplit, make_outlier_scorer

X, digit = load_digits(return_X_y=True)  # rows of 64 grey levels
y = np.where(digit == 8, "eight", "other")
X_tune, X_test, y_tune, y_test = train_test_split(
    X, y, test_size=0.5, stratify=y, random_state=0
)

# %%
# Folds and a score that know the anomalies
# -----------------------------------------
# A detector takes all training samples as normal, so the training folds must not
# contain anomalies. The test folds need both kinds. ``InlierSplit`` makes such folds.
# ``scoring="roc_auc"`` would take the larger label, here "other", for the positive
# class, and turn all ranks upside down without a warning. ``make_outlier_scorer`` is
# told which label is the anomaly.

folds = InlierSplit(3, anomaly_label="other")
scoring = {
    "AUROC": make_outlier_scorer("roc_auc", anomaly_label="other"),
    "few false alarms": make_outlier_scorer(
        "roc_auc", anomaly_label="other", max_fpr=0.1
    ),
}

# %%
# Search, and train once for each fold
# ------------------------------------
# ``image_shape`` turns the rows from the scaler back into images. The grid varies the
# steps of the latent search, and the kind of score. None of these parameters changes
# the training. With ``memory``, the networks of each fold are trained once and then
# taken from disk: 3 trainings for 36 fits.

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
    "detect__search_lr": [0.05, 0.2],
    "detect__anomaly_score": ["anogan", "calibrated"],
}
with tempfile.TemporaryDirectory() as folder:
    pipeline.set_params(detect__memory=folder)
    search = GridSearchCV(
        pipeline, grid, cv=folds, scoring=scoring, refit=False, return_train_score=False
    ).fit(X_tune, y_tune)
pipeline.set_params(detect__memory=None)

results = search.cv_results_
print("steps    lr  score       AUROC  few false alarms")
for i, parameters in enumerate(results["params"]):
    steps, lr, kind = (parameters[name] for name in grid)
    means = [results[f"mean_test_{name}"][i] for name in scoring]
    print(f"{steps:5d}  {lr:4.2f}  {kind:<10}  {means[0]:.3f}  {means[1]:.3f}")
first, *others = results["mean_fit_time"]
print(f"\nfits: {first:.1f} s with training, {np.mean(others):.1f} s from memory")

# %%
# Fit the best pipeline on all normal images
# ------------------------------------------
# The grid search has ``refit=False`` because it would fit to the anomalies as well.

best = results["params"][results["mean_test_AUROC"].argmax()]
pipeline.set_params(**best).fit(X_tune[y_tune == "eight"])
auroc = scoring["AUROC"](pipeline, X_test, y_test)
print(f"\nbest parameters: {best}")
print(f"AUROC on images neither trained nor tuned on: {auroc:.3f}")

# %%
# Draw the grid
# -------------
# The bars are the standard deviation over the folds. With some sixty normal images to
# train on, the folds show only large differences.

fig, ax = plt.subplots(figsize=(5.4, 3.4), layout="constrained")
columns = [results[f"param_{name}"] for name in grid]
for kind in grid["detect__anomaly_score"]:
    for lr, style in zip(grid["detect__search_lr"], ("--", "-"), strict=True):
        chosen = (columns[1] == lr) & (columns[2] == kind)
        ax.errorbar(
            columns[0][chosen].astype(int),
            results["mean_test_AUROC"][chosen],
            results["std_test_AUROC"][chosen],
            color="C0" if kind == "anogan" else "C1",
            linestyle=style,
            marker="o",
            capsize=3,
            label=f"{kind}, search_lr={lr}",
        )
ax.set_xscale("log")
ax.set_xticks(grid["detect__search_steps"], grid["detect__search_steps"])
ax.minorticks_off()
ax.set(xlabel="search_steps", ylabel="AUROC, mean over the folds")
ax.set_title("Tuning the search and the score")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, handlelength=4)
fig.savefig("grid_search.png", dpi=120)
print("saved grid_search.png")

# %%
# You can tune a detector in a pipeline like any other estimator of scikit-learn, with
# folds that keep anomalies out of the training, and one training for each fold.
