"""What thresholds find, and how many false alarms they give, by the images held out.

Each of the ten classes is normal once, and all others are anomalies. A default detector
is fitted to some images of the class. Then `predict`, and `p_values` at several levels,
decide about unseen images of all classes.

    python benchmarks/thresholds.py --dataset digits --seeds 0 1 2
    python benchmarks/thresholds.py --dataset mnist --n-train 100 --data DIR
    python benchmarks/thresholds.py --dataset digits --held-out 10 22 39
    python benchmarks/thresholds.py --dataset digits --folds 5 --steps 0.333

Without --held-out, the detector's own rule decides how many images are held out. From
other detectors, the same images are held out, and set a threshold and p-values in the
same way (split conformal). With --folds, p-values are cross-conformal (Hennhöfer and
Preisach 2024, doi:10.48550/arXiv.2402.16388): a detector for each fold holds this fold
out, the ensemble of all detectors scores, and `predict` stands for a p-value of at most
.05. Each of the detectors takes the share --steps of the steps.
"""

import argparse
import time
import warnings
from unittest import mock

import numpy as np
import torch
from quality import describe_versions, detectors, load
from sklearn.metrics import roc_auc_score

from sklearn_anogan import AnoGANDetector, _detector
from sklearn_anogan._calibration import conformal_p_values, threshold_for_unseen
from sklearn_anogan._holding_out import hold_out, n_held_out
from sklearn_anogan._training import TrainingSettings

LEVELS = (0.05, 0.1, 0.2)

TITLES = {"digits": "digits", "mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}

#: Detectors of scikit-learn, and simple ones, that thresholds are set for as well.
SIMPLE = ("nearest neighbours", "LocalOutlierFactor", "PCA residual", "IsolationForest")


def main():
    args = parse_arguments()
    warnings.simplefilter("ignore", UserWarning)  # of few held-out images
    print(f"{describe_versions()}, {torch.get_num_threads()} threads", flush=True)
    cells = " | ".join(f"p <= {level}" for level in LEVELS)
    print(
        "False alarms / found. In brackets: the class of which least is found.\n\n"
        f"| images, held out | | AUROC | predict | {cells} | seconds |\n"
        f"|---{'|---' * 7}|"
    )
    folds = [] if args.folds is None else [f"{args.folds} folds"]
    for held_out in [*args.held_out, *folds, *args.detectors]:
        rows, sizes = [], []
        for seed in args.seeds:
            X_train, y_train, X_test, y_test = load(args.dataset, args.data, seed)
            rng = np.random.RandomState(seed)
            kept = rng.permutation(len(X_test))[: args.n_test]
            for label in args.tasks:
                X = X_train[y_train == label]
                X = X[rng.permutation(len(X))[: args.n_train]]
                is_anomaly = y_test[kept] != label
                rows.append(measure(X, X_test[kept], is_anomaly, held_out, seed, args))
                sizes.append(len(X))
        print(
            describe(args, held_out, sizes, np.array(rows)),
            flush=True,
        )


def measure(X, X_new, is_anomaly, held_out, seed, args):
    """AUROC, shares marked of normal images and of anomalies, seconds."""
    begun = time.perf_counter()
    if held_out == "rule":
        answers = by_split(X, X_new, None, seed)
    elif held_out in SIMPLE:
        answers = of_simple(held_out, X, X_new, seed)
    elif isinstance(held_out, int):
        own = np.sort(np.random.RandomState(0).permutation(len(X))[:held_out])
        answers = by_split(X, X_new, own, seed)
    else:
        answers = by_folds(X, X_new, args.folds, args.steps, seed)
    seconds = time.perf_counter() - begun
    scores, is_marked, p = answers
    marked = [is_marked, *(p <= level for level in LEVELS)]
    shares = [m[which].mean() for m in marked for which in (~is_anomaly, is_anomaly)]
    return [roc_auc_score(is_anomaly, -scores), *shares, seconds]


def by_split(X, X_new, held_out, seed, share_of_steps=1.0):
    """Scores, who is marked by `predict`, and p-values."""
    steps, rule = TrainingSettings.n_epochs, _detector.hold_out

    def fewer(self, *args):
        return max(1, round(steps(self, *args) * share_of_steps))

    def split(n, groups):
        if held_out is None:
            return rule(n, groups)
        return np.setdiff1d(np.arange(n), held_out), held_out

    with (
        mock.patch.object(TrainingSettings, "n_epochs", fewer),
        mock.patch.object(_detector, "hold_out", split),
    ):
        detector = AnoGANDetector(random_state=seed).fit(X)
    scores = detector.score_samples(X_new)
    return scores, scores < detector.offset_, detector.p_values(X_new)


def of_simple(name, X, X_new, seed):
    """The answers of another detector, with a threshold by the same held-out images."""
    training, held_out = hold_out(len(X))
    rows, rows_new = (each.reshape(len(each), -1).astype(float) for each in (X, X_new))
    detector, _ = detectors(seed, 64)[name]
    detector.fit(rows[training])
    usual, scores = map(detector.score_samples, (rows[held_out], rows_new))
    weights = np.ones(len(held_out))
    of_all = np.full(len(held_out), True)
    p = conformal_p_values([(of_all, usual, scores)], weights)
    return scores, scores < threshold_for_unseen(usual, weights), p


def by_folds(X, X_new, n_folds, share_of_steps, seed):
    order, scores, n_at_most = np.random.RandomState(0).permutation(len(X)), 0, 0
    for k in range(n_folds):
        fold = np.sort(order[k::n_folds])
        own, _, p = by_split(X, X_new, fold, seed + k, share_of_steps)
        scores, n_at_most = scores + own, n_at_most + p * (1 + len(fold)) - 1
    p = (1 + n_at_most) / (1 + len(X))
    return scores, p <= 0.05, p


def describe(args, held_out, sizes, rows):
    n, m = round(np.mean(sizes)), held_out
    if held_out == "rule" or held_out in SIMPLE:
        m = round(np.mean([n_held_out(size) for size in sizes]))
    auroc, *shares, seconds = rows.mean(axis=0)
    least = rows[:, 2].reshape(-1, len(args.tasks)).mean(axis=0).min()
    cells = [
        f"{alarms:.3f} / {found:.3f}"
        for alarms, found in zip(shares[::2], shares[1::2], strict=True)
    ]
    cells[0] += f" ({least:.2f})"
    name = held_out if held_out in SIMPLE else "AnoGANDetector"
    images = f"{TITLES[args.dataset]} {n}, {m}"
    return f"| {images} | {name} | {auroc:.3f} | {' | '.join(cells)} | {seconds:.1f} |"


def number_or_rule(text):
    return text if text == "rule" else int(text)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", choices=TITLES, default="digits")
    parser.add_argument("--data", help="folder with the data sets")
    parser.add_argument("--n-train", type=int, help="images of the class")
    parser.add_argument("--n-test", type=int, default=3000, help="images to test")
    parser.add_argument("--tasks", type=int, nargs="+", default=[*range(10)])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--held-out", type=number_or_rule, nargs="*", default=["rule"])
    parser.add_argument("--folds", type=int)
    parser.add_argument("--steps", type=float, default=1.0)
    parser.add_argument("--detectors", choices=SIMPLE, nargs="*", default=SIMPLE)
    return parser.parse_args()


if __name__ == "__main__":
    main()
