"""What the generator learns: generated images against normal images it has not seen.

For each class and seed, a detector with default parameters is fitted on training images
of the class. As many images as there are unseen normal ones are drawn from it and
compared with these in the features of a convolutional network with fixed random
weights, which are no less suited to such small images than those of a network trained
on photographs, see Naeem et al. 2020, :doi:`10.48550/arXiv.2002.09797`:

* precision and density: how many generated images lie among unseen ones, and how
  closely (the latter may exceed 1);
* recall and coverage: how many unseen images lie among generated ones, and how many
  have one close by;
* diversity: the mean distance of all pairs of pixels, and that to the nearest other
  image, relative to unseen images (1 is right, 0 is always the same image);
* copies: the median distance of generated images to the nearest training image,
  relative to that of unseen images (1 is right, 0 are copies).

The rows "real" compare training images with unseen ones: no generator does better.

    python benchmarks/training.py --dataset mnist --data DIR --seeds 0 1 2
    python benchmarks/training.py --dataset digits
"""

import argparse
import contextlib
import io
import time
import warnings

import numpy as np
import torch
from prdc import compute_prdc
from quality import describe_versions, load
from sklearn.metrics import pairwise_distances
from torch.nn.functional import conv2d, relu

from sklearn_anogan import AnoGANDetector

FIGURES = ("precision", "recall", "density", "coverage")
NAMES = (*FIGURES, "diversity, pairs", "diversity, nearest", "copies")

TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}


def main():
    args = parse_arguments()
    print(describe_versions())
    print(f"{args.dataset}, {torch.get_num_threads()} threads\n")
    print(f"| class | images | seed | {' | '.join(NAMES)} | fit [s] | warnings |")
    print("|---|---|---|" + "---|" * (len(NAMES) + 2))
    table, real = [], []
    for label in args.classes:
        X, unseen = load_class(args.dataset, label, args.data)
        X = X[: args.n_train]
        start = f"| {label} | {len(X)} |"
        real.append(compare(X[: len(unseen)], unseen, X))
        print_row(f"{start} real |", real[-1])
        for seed in args.seeds:
            begun = time.perf_counter()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                detector = AnoGANDetector(memory=args.memory, random_state=seed).fit(X)
            seconds = time.perf_counter() - begun
            drawn = detector.sample(len(unseen), random_state=0)
            table.append(compare(drawn, unseen, X))
            messages = "; ".join(str(each.message).split(":")[0] for each in caught)
            print_row(
                f"{start} {seed} |", table[-1], f"{seconds:.0f} | {messages or '-'} |"
            )
    title = TITLES.get(args.dataset, args.dataset)
    if len(args.classes) == 1:
        title += f" {args.classes[0]}"
    if args.n_train:
        title += f", {args.n_train} images"
    print(f"\n| | {' | '.join(NAMES)} |\n|---{'|---' * len(NAMES)}|")
    print_row(f"| {title}, real |", np.mean(real, axis=0), "")
    print_row(f"| {title}, mean |", np.mean(table, axis=0), "")
    print_row(f"| {title}, least |", np.min(table, axis=0), "")


def print_row(start, figures, end="| |"):
    print(start, " | ".join(f"{f:.3f}" for f in figures), f"| {end}", flush=True)


def load_class(dataset, label, folder):
    """Training images of a class, and unseen ones of it."""
    if dataset == "magnetic_tile_64":
        with np.load(f"{folder}/{dataset}.npz") as data:
            return data["X_train"], data["X_test"][data["y_test"] == 0]
    X_train, y_train, X_test, y_test = load(dataset, folder)
    return X_train[y_train == label], X_test[y_test == label]


def compare(images, unseen, training_images):
    """The figures in the order of NAMES."""
    k = 5 if len(unseen) > 100 else 3
    # With equal numbers on both sides, neither figure is favoured.
    n = min(len(images), len(unseen))
    images, unseen = images[:n].astype(np.float32), unseen[:n].astype(np.float32)
    with contextlib.redirect_stdout(io.StringIO()):
        found = compute_prdc(features(unseen), features(images), nearest_k=k)
    (pairs, nearest), (real_pairs, real_nearest) = spreads(images), spreads(unseen)
    copies = to_nearest(images, training_images) / to_nearest(unseen, training_images)
    diversity = pairs / real_pairs, nearest / real_nearest
    return [*(found[name] for name in FIGURES), *diversity, copies]


def features(images):
    """Three layers with fixed random weights, averaged over a grid of 4x4."""
    rng = torch.Generator().manual_seed(0)
    x = torch.from_numpy(images / max(1, images.max()))[:, None]
    for n_out in (64, 128, 256):
        n_in = x.shape[1]
        weight = torch.randn(n_out, n_in, 4, 4, generator=rng) / (8 * n_in) ** 0.5
        x = relu(conv2d(x, weight, stride=2, padding=1))
    size = min(4, x.shape[-1])
    return torch.nn.functional.adaptive_avg_pool2d(x, size).flatten(1).numpy()


def spreads(images):
    """Mean distance of all pairs, and to the nearest other image."""
    rows = images.reshape(len(images), -1)
    distances = pairwise_distances(rows)
    np.fill_diagonal(distances, np.nan)
    return np.nanmean(distances), np.nanmean(np.nanmin(distances, axis=1))


def to_nearest(images, others):
    rows, others = (X.reshape(len(X), -1).astype(float) for X in (images, others))
    return np.median(pairwise_distances(rows, others).min(axis=1))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    datasets = ["digits", "mnist", "fashion_mnist", "magnetic_tile_64"]
    parser.add_argument("--dataset", choices=datasets, required=True)
    parser.add_argument("--data", help="folder with the .npz files")
    parser.add_argument("--classes", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--n-train", type=int, help="images per class, at most")
    parser.add_argument("--memory", help="folder that keeps trained networks")
    return parser.parse_args()


if __name__ == "__main__":
    main()
