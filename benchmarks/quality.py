"""One-class benchmark: normal samples train, normal ones and anomalies are ranked.

For each task, every detector is fitted on normal training samples alone and ranks test
samples of both kinds:

* digits, mnist, fashion_mnist: each of the ten classes is normal once, all others are
  anomalies; the protocol of Ruff et al. 2018, "Deep one-class classification", table 1;
* magnetic_tile_64: tiles without a defect are normal; where a detector draws maps, its
  pixels are ranked as well;
* adbench: tables of numbers, half of the normal rows train, by another split for each
  seed.

    python benchmarks/quality.py --dataset digits
    python benchmarks/quality.py --dataset mnist --data DIR --csv mnist.csv
    python benchmarks/quality.py --dataset mnist --data DIR --quick
    python benchmarks/quality.py --dataset mnist --data DIR --contaminate 0.05

Figures are the area under the ROC curve and the average precision, with anomalies as
the positive class. Of AnoGANDetector, the share of unseen normal samples that `predict`
takes for anomalies is told too; its threshold aims at 5 %. With --csv, each row is
written as soon as it is measured, and rows that the file has already are not measured
again; --memory keeps the trained networks for other benchmarks. With --contaminate,
training samples of the other classes make up that share of the training set.

The digits are scikit-learn's, half of each class for training. The others come from DIR
(mnist.npz, fashion_mnist.npz and magnetic_tile_64.npz with arrays X_train, y_train,
X_test, y_test, mask_test; adbench/*.npz with X, y); without --data, MNIST and
Fashion-MNIST come from OpenML by way of scikit-learn.
"""

import argparse
import csv
import platform
import time
from importlib import import_module
from importlib.metadata import version
from inspect import signature
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import fetch_openml, load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from sklearn_anogan import AnoGANDetector

OPENML_NAMES = {"mnist": "mnist_784", "fashion_mnist": "Fashion-MNIST"}
DATASETS = ["digits", *OPENML_NAMES, "magnetic_tile_64", "adbench"]
FIGURES = ("auroc", "ap", "pixel_auroc", "false_alarms", "fit", "score")
COLUMNS = ("task", "seed", "detector", *FIGURES)

#: Means of ten classes in the literature, of this protocol or one close to it.
PUBLISHED = {
    "mnist": {
        "AnoGAN (Ruff et al. 2018)": 0.913,
        "Deep SVDD (Ruff et al. 2018)": 0.948,
        "OCGAN (Perera et al. 2019, its own protocol)": 0.975,
    }
}


class Reconstruction:
    """The distance of a sample from the subspace of the first principal components."""

    def __init__(self, n_components):
        self.n_components = n_components

    def fit(self, X):
        # As many components as asked for, or 95 % of the variance of fewer features.
        few = min(X.shape) <= self.n_components
        self.pca = PCA(0.95 if few else self.n_components, svd_solver="full").fit(X)
        return self

    def anomaly_map(self, X):
        return np.abs(X - self.pca.inverse_transform(self.pca.transform(X)))

    def score_samples(self, X):
        return -np.square(self.anomaly_map(X)).sum(axis=1)


class Neighbors:
    """The mean distance from the five nearest training samples."""

    def fit(self, X):
        self.neighbors = NearestNeighbors(n_neighbors=5).fit(X)
        return self

    def score_samples(self, X):
        return -self.neighbors.kneighbors(X)[0].mean(axis=1)


class PyOD:
    """A detector of PyOD with its defaults; where it draws numbers, with a seed."""

    def __init__(self, name, seed):
        self.name, self.seed = name, seed

    def fit(self, X):
        detector = getattr(import_module(f"pyod.models.{self.name.lower()}"), self.name)
        has_seed = "random_state" in signature(detector).parameters
        self.detector = detector(**{"random_state": self.seed} if has_seed else {})
        self.detector.fit(X)
        return self

    def score_samples(self, X):
        return -self.detector.decision_function(X)


class PyODAnoGAN:
    """PyOD's AnoGAN with its defaults, on 2000 training samples at most."""

    def __init__(self, seed):
        self.seed = seed

    def fit(self, X):
        from pyod.models.anogan import AnoGAN

        torch.manual_seed(self.seed)
        self.low, self.width = X.min(), np.ptp(X)
        self.detector = AnoGAN().fit(self._scale(X[:2000]))
        return self

    def score_samples(self, X):
        return -self.detector.decision_function(self._scale(X))

    def _scale(self, X):
        return (X - self.low) / self.width


def detectors(seed, n_components, **settings):
    """Name -> (detector, whether it takes images rather than rows)."""
    return {
        "AnoGANDetector": (AnoGANDetector(random_state=seed, **settings), True),
        "IsolationForest": (IsolationForest(random_state=seed), False),
        "LocalOutlierFactor": (LocalOutlierFactor(novelty=True), False),
        "OneClassSVM": (OneClassSVM(), False),
        "PCA residual": (Reconstruction(n_components), False),
        "nearest neighbours": (Neighbors(), False),
        "GaussianMixture": (
            make_pipeline(
                PCA(0.95, svd_solver="full"),
                GaussianMixture(4, reg_covar=1e-2, random_state=seed),
            ),
            False,
        ),
        "PyOD's AnoGAN": (PyODAnoGAN(seed), False),
        **{f"PyOD's {name}": (PyOD(name, seed), False) for name in PYOD},
    }


#: Classes of PyOD that are compared on tables.
PYOD = ("KNN", "LOF", "ECOD", "HBOS")

#: Deterministic detectors need one seed only, where all seeds have the same split.
SEEDLESS = {
    *(f"PyOD's {name}" for name in PYOD),
    "LocalOutlierFactor",
    "OneClassSVM",
    "PCA residual",
    "nearest neighbours",
}


def main():
    args = parse_arguments()
    if args.quick:
        args.n_train, args.n_test, args.tasks = 1000, 500, args.tasks or ["1", "2"]
    done = read_rows(args.csv)
    print(describe_versions())
    print(f"{args.dataset}, {torch.get_num_threads()} threads\n")
    for seed in args.seeds:
        for task, X_train, X_test, is_anomaly, masks in tasks(args, seed):
            for name, (detector, takes_images) in detectors(
                seed,
                32 if masks is not None else 64,
                memory=args.memory,
                max_epochs=args.max_epochs or "auto",
            ).items():
                key = (f"{args.dataset} {task}", str(seed), name)
                is_again = seed != args.seeds[0] and args.dataset != "adbench"
                skipped = name not in args.detectors or (is_again and name in SEEDLESS)
                if skipped or key in done:
                    continue
                rows = not takes_images
                figures = measure(detector, X_train, X_test, is_anomaly, masks, rows)
                done[key] = figures
                write_row(args.csv, (*key, *figures))
                print(*key, *figures, flush=True)
    summarize(done, args.dataset)


def measure(detector, X_train, X_test, is_anomaly, masks, rows):
    """The FIGURES of a detector as text, "" for those that it has none of."""
    if rows:
        X_train, X_test = (
            X.reshape(len(X), -1).astype(float) for X in (X_train, X_test)
        )
    begun = time.perf_counter()
    detector.fit(X_train)
    fitted = time.perf_counter()
    losses = -detector.score_samples(X_test)
    scored = time.perf_counter()
    pixels = ""
    if masks is not None and hasattr(detector, "anomaly_map"):
        maps = detector.anomaly_map(X_test)
        pixels = f"{roc_auc_score(masks.ravel() > 0, maps.ravel()):.4f}"
    false_alarms = ""
    if isinstance(detector, AnoGANDetector):
        # What `predict` answers, without another search.
        is_alarm = losses > -detector.offset_
        false_alarms = f"{is_alarm[~is_anomaly].mean():.4f}"
    return (
        f"{roc_auc_score(is_anomaly, losses):.4f}",
        f"{average_precision_score(is_anomaly, losses):.4f}",
        pixels,
        false_alarms,
        f"{fitted - begun:.1f}",
        f"{scored - fitted:.1f}",
    )


def tasks(args, seed):
    """(name, training samples, test samples, which are anomalies, masks or None)."""
    if args.dataset == "adbench":
        for path in sorted(Path(args.data, "adbench").glob("*.npz")):
            name = path.stem.split("_", 1)[1]
            if not args.tasks or name in args.tasks:
                yield (name, *load_table(path, seed), None)
        return
    if args.dataset == "magnetic_tile_64":
        with np.load(Path(args.data, f"{args.dataset}.npz")) as data:
            X_train = data["X_train"][: args.n_train]
            yield "", X_train, data["X_test"], data["y_test"] == 1, data["mask_test"]
        return
    X_train, y_train, X_test, y_test = load(args.dataset, args.data)
    kept = np.random.RandomState(0).permutation(len(X_test))[: args.n_test]
    X_test, y_test = X_test[kept], y_test[kept]
    for label in args.tasks or map(str, range(10)):
        is_normal = y_train == int(label)
        X_normal, name = X_train[is_normal][: args.n_train], label
        name += f", {len(X_normal)} images" if args.n_train else ""
        name += f", {args.max_epochs} epochs" if args.max_epochs else ""
        if args.contaminate:
            share = args.contaminate
            X_others = X_train[~is_normal]
            n_others = round(share / (1 - share) * len(X_normal))
            others = np.random.RandomState(0).permutation(len(X_others))[:n_others]
            X_normal = np.concatenate([X_normal, X_others[others]])
            name += f"+{share:.0%}"
        yield name, X_normal, X_test, y_test != int(label), None


def load_table(path, seed):
    """Half of the normal rows for training, the others and all anomalies for test."""
    with np.load(path) as data:
        X, y = data["X"], data["y"]
    X_train, unseen = train_test_split(X[y == 0], test_size=0.5, random_state=seed)
    scaler = StandardScaler().fit(X_train)
    X_test = np.concatenate([unseen, X[y == 1]])
    is_anomaly = np.arange(len(X_test)) >= len(unseen)
    return scaler.transform(X_train), scaler.transform(X_test), is_anomaly


def load(dataset, folder, seed=0):
    """Training and test samples; of the digits, half of each class, by the seed."""
    if dataset == "digits":
        digits = load_digits()
        X_train, X_test, y_train, y_test = train_test_split(
            digits.images,
            digits.target,
            test_size=0.5,
            stratify=digits.target,
            random_state=seed,
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


def read_rows(path):
    """(task, seed, detector) -> figures, of the rows measured before."""
    if path is None or not Path(path).exists():
        return {}
    with open(path, newline="") as file:
        return {tuple(row[:3]): tuple(row[3:]) for row in list(csv.reader(file))[1:]}


def write_row(path, row):
    if path is None:
        return
    is_new = not Path(path).exists()
    with open(path, "a", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([COLUMNS, row] if is_new else [row])


def summarize(done, dataset):
    """A table of AUROC by task, and the means over tasks of everything."""
    done = {key: row for key, row in done.items() if key[0].split()[0] == dataset}
    names = list(dict.fromkeys(name for _, _, name in done))
    all_tasks = list(dict.fromkeys(task for task, _, _ in done))

    def figures(name, task, column):
        """One for each seed."""
        found = [row for (t, _, n), row in done.items() if (t, n) == (task, name)]
        return [float(row[column]) if row[column] else np.nan for row in found]

    def mean(name, column):
        means = [np.mean(figures(name, task, column) or np.nan) for task in all_tasks]
        return np.mean(means)

    for column, title in enumerate(("AUROC", "average precision")):
        print(f"\n| {title} | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        for task in all_tasks:
            row = [np.mean(figures(name, task, column) or np.nan) for name in names]
            print(f"| {task} | {' | '.join(f'{value:.4f}' for value in row)} |")
    columns = "AUROC | std | AP | pixel AUROC | false alarms | fit [s] | score [s]"
    print(f"\n| detector | {columns} |\n|---|{'---|' * 7}")
    for name in names:
        by_task = [figures(name, task, 0) for task in all_tasks]
        spread = np.nan
        if len({len(each) for each in by_task}) == 1:
            spread = np.std(np.mean(by_task, axis=0))
        auroc, *values = (mean(name, column) for column in range(len(FIGURES)))
        *shares, fit, score = values
        cells = [f"{value:.4f}" for value in (auroc, spread, *shares)]
        cells = [*cells, f"{fit:.1f}", f"{score:.1f}"]
        print(f"| {name} | {' | '.join(cells).replace('nan', '-')} |")
    for name, value in PUBLISHED.get(dataset, {}).items():
        print(f"| {name}, as published | {value:.3f} |{' |' * 6}")


def describe_versions():
    packages = ("sklearn-anogan", "scikit-learn", "torch", "skorch", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"Python {platform.python_version()}, {versions}"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = list(detectors(0, 1))
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    parser.add_argument("--data", help="folder with the .npz files")
    parser.add_argument("--tasks", nargs="+", help="classes, or names of tables")
    parser.add_argument("--detectors", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--n-train", type=int, help="images per class, at most")
    parser.add_argument("--max-epochs", type=int, help="of ours; default: auto")
    parser.add_argument("--n-test", type=int, default=2000)
    parser.add_argument(
        "--contaminate", type=float, help="share of anomalies among training images"
    )
    parser.add_argument("--csv", help="file for the rows, gone on with if it exists")
    parser.add_argument("--memory", help="folder that keeps trained networks")
    parser.add_argument("--quick", action="store_true", help="ends in minutes")
    args = parser.parse_args()
    if args.contaminate is not None:
        if args.dataset in ("magnetic_tile_64", "adbench"):
            parser.error("--contaminate needs a data set of ten classes")
        if not 0 < args.contaminate < 1:
            parser.error("--contaminate must lie between 0 and 1")
    return args


if __name__ == "__main__":
    main()
