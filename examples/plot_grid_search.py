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
# Images of an 8 are normal. The labels say what is on an image, as labels in real life
# do: they need not be 1 and -1.

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
# A detector takes what it is trained on as normal, so anomalies have to stay out of the
# training folds, and test folds need both kinds: ``InlierSplit`` sees to that. And
# ``scoring="roc_auc"`` would take the larger label for the better one, here "other",
# and turn all ranks upside down without a word. ``make_outlier_scorer`` is told which
# label is the anomaly.

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
# ``image_shape`` turns the rows that leave the scaler into images again. The grid
# varies how far the latent search goes, and what the score is made of. None of its
# parameters changes the training, and with ``memory`` the networks of a fold are
# trained once and then taken from disk: 3 trainings for 36 fits.

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
# ``refit=False`` above because the grid search would fit on the anomalies as well.

best = results["params"][results["mean_test_AUROC"].argmax()]
pipeline.set_params(**best).fit(X_tune[y_tune == "eight"])
auroc = scoring["AUROC"](pipeline, X_test, y_test)
print(f"\nbest parameters: {best}")
print(f"AUROC on images neither trained nor tuned on: {auroc:.3f}")

# %%
# Draw the grid
# -------------
# The bars are the standard deviation over the folds. Folds with some sixty normal
# images to train on tell apart large differences only.

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
# A detector in a pipeline is tuned like any other estimator of scikit-learn, with folds
# that keep anomalies out of its training and one training for each of them.
