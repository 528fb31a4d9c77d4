"""
=====================================
Searching a grid with a Dask cluster
=====================================

scikit-learn and this library run their work through joblib, which can send the work to
a cluster. The same code runs on one core, in several processes, or on many machines.
"""

# %%
# Data, and a grid search
# -----------------------
# Images of a 2 are normal. Every worker trains its own detector, on the threads that
# the cluster gives to that worker.

import joblib
import matplotlib.pyplot as plt
import numpy as np
from dask.distributed import Client, LocalCluster
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sklearn_anogan import AnoGANDetector
from sklearn_anogan.model_selection import InlierSplit, make_outlier_scorer

digits = load_digits()
X, y = digits.images[:600], np.where(digits.target[:600] == 2, 1, -1)
search = GridSearchCV(
    AnoGANDetector(max_epochs=1000, random_state=0),
    {"n_filters": [8, 16, 32]},
    cv=InlierSplit(3),
    scoring=make_outlier_scorer("roc_auc"),
    refit=False,
)

# %%
# Run it on a cluster
# -------------------
# The cluster here has two processes on this machine; ``Client("address:8786")`` would
# connect to a cluster of many machines. The processes read this script again, so the
# work has to stand below ``if __name__ == "__main__":``. With Ray, use
# ``ray.util.joblib.register_ray()`` and ``joblib.parallel_config("ray")`` instead.

if __name__ == "__main__":
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        Client(cluster),
        joblib.parallel_config("dask"),
    ):
        search.fit(X, y)
    scores = search.cv_results_["mean_test_score"]
    for width, score in zip(search.param_grid["n_filters"], scores, strict=True):
        print(f"n_filters={width:2d}: AUROC {score:.3f}")

    # Fit one grid point by hand on the first fold: the score is the same.
    train, test = next(search.cv.split(X, y))
    detector = AnoGANDetector(n_filters=8, max_epochs=1000, random_state=0)
    by_hand = search.scoring(detector.fit(X[train]), X[test], y[test])
    on_cluster = search.cv_results_["split0_test_score"][0]
    print(f"first fold: {on_cluster:.6f} on the cluster, {by_hand:.6f} in this process")

    fig, ax = plt.subplots(figsize=(4.5, 3), layout="constrained")
    ax.errorbar(
        search.param_grid["n_filters"],
        scores,
        search.cv_results_["std_test_score"],
        marker="o",
        capsize=3,
    )
    ax.set(xlabel="n_filters", ylabel="AUROC, mean over the folds")
    ax.set_title("A grid searched by a Dask cluster")
    fig.savefig("dask.png", dpi=120)
    print("saved dask.png")

# %%
# A cluster needs one more line than a single process, and gives the same results.
