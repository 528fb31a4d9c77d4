"""One-class benchmark: one class is normal, all others are anomalies.

For each class, every detector is fitted on the training images of that class alone and
ranks test images of all classes; the table shows the area under the ROC curve. This is
the protocol of Ruff et al. 2018, "Deep one-class classification", table 1.

    python benchmarks/quality.py --dataset digits
    python benchmarks/quality.py --dataset mnist --classes 1

The digits are scikit-learn's, half of each class for training. The others come from
DIR/mnist.npz and DIR/fashion_mnist.npz with --data DIR (arrays X_train, y_train,
X_test, y_test), else from OpenML by way of scikit-learn.
"""

import argparse
import platform
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_openml, load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM

from sklearn_anogan import AnoGANDetector

OPENML_NAMES = {"mnist": "mnist_784", "fashion_mnist": "Fashion-MNIST"}


def main():
    args = parse_arguments()
    X_train, y_train, X_test, y_test = load(args.dataset, args.data)
    kept = np.random.RandomState(0).permutation(len(X_test))[: args.n_test]
    X_test, y_test = X_test[kept], y_test[kept]
    print(describe_versions())
    print(f"{args.dataset}, {len(X_test)} test images\n")
    print("| normal class | seed | detector | AUROC | fit [s] | score [s] |")
    print("|---|---|---|---|---|---|")
    aurocs = defaultdict(list)
    for normal in args.classes:
        X_normal = X_train[y_train == normal][: args.n_train]
        is_normal = y_test == normal
        for seed in args.seeds:
            for name, detector, wants_rows in detectors(seed):
                A, B = X_normal, X_test
                if wants_rows:
                    A, B = A.reshape(len(A), -1), B.reshape(len(B), -1)
                start = time.perf_counter()
                detector.fit(A)
                fitted = time.perf_counter()
                scores = detector.score_samples(B)
                scored = time.perf_counter()
                aurocs[name].append(roc_auc_score(is_normal, scores))
                print(
                    f"| {normal} | {seed} | {name} | {aurocs[name][-1]:.4f} | "
                    f"{fitted - start:.1f} | {scored - fitted:.1f} |",
                    flush=True,
                )
    print("\n| detector | mean AUROC |\n|---|---|")
    for name, values in aurocs.items():
        print(f"| {name} | {np.mean(values):.4f} |")


def detectors(seed):
    """(name, detector, wants flattened images) of everything compared."""
    return [
        ("AnoGANDetector", AnoGANDetector(random_state=seed), False),
        ("IsolationForest", IsolationForest(random_state=seed), True),
        ("LocalOutlierFactor", LocalOutlierFactor(novelty=True), True),
        ("OneClassSVM", OneClassSVM(), True),
    ]


def load(dataset, folder):
    if dataset == "digits":
        digits = load_digits()
        X_train, X_test, y_train, y_test = train_test_split(
            digits.images,
            digits.target,
            test_size=0.5,
            stratify=digits.target,
            random_state=0,
        )
        return X_train, y_train, X_test, y_test
    if folder is not None:
        with np.load(Path(folder) / f"{dataset}.npz") as data:
            return tuple(data[k] for k in ("X_train", "y_train", "X_test", "y_test"))
    print(f"No --data given: fetching {OPENML_NAMES[dataset]} from OpenML.")
    X, y = fetch_openml(
        OPENML_NAMES[dataset], version=1, return_X_y=True, as_frame=False
    )
    X, y = X.reshape(-1, 28, 28).astype(np.uint8), y.astype(int)
    return X[:60000], y[:60000], X[60000:], y[60000:]


def describe_versions():
    packages = ("sklearn-anogan", "scikit-learn", "torch", "skorch", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"Python {platform.python_version()}, {versions}"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", choices=["digits", *OPENML_NAMES], required=True)
    parser.add_argument("--data", help="folder with the .npz files")
    parser.add_argument("--classes", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--n-train", type=int, help="images per class, at most")
    parser.add_argument("--n-test", type=int, default=2000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
