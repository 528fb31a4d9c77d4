"""How often p-values and the threshold take unseen normal images for anomalies.

All digits of 8x8 pixels are normal. Again and again, some of them are drawn to fit a
small detector, and the others are unseen: the share of them whose p-value is at most a
should be a in the mean, and not more. With groups, five near-copies of each digit are
drawn, which differ by a little noise.
"""

import argparse
import warnings

import numpy as np
import torch
from quality import describe_versions
from sklearn.datasets import load_digits
from tqdm import tqdm

from sklearn_anogan import AnoGANDetector
from sklearn_anogan._holding_out import n_held_out

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

#: Near-copies of a digit, and standard deviation of their noise, in grey levels of 16.
N_COPIES, NOISE = 5, 0.5


def main():
    args = parse_arguments()
    warnings.simplefilter("ignore", UserWarning)  # of near-copies, and of few groups
    print(f"{describe_versions()}, {torch.get_num_threads()} threads", flush=True)
    cells = " | ".join(f"p <= {level}" for level in LEVELS)
    print(f"| images, held out | score | {cells} | predict |\n|---{'|---' * 8}|")
    for n in args.n_train:
        for anomaly_score in ("calibrated", "anogan"):
            show(f"{n}, {n_held_out(n)}", anomaly_score, args, n)
    for n in args.n_train:
        n_groups = n // N_COPIES
        title = f"{n} in {n_groups} groups, {N_COPIES * n_held_out(n_groups)}"
        show(title, "calibrated", args, n, has_copies=True, knows_groups=True)
        title = f"{n} near-copies without groups, {n_held_out(n)}"
        show(title, "calibrated", args, n, has_copies=True)


def show(title, anomaly_score, args, n, **options):
    shares = [
        simulate(n, anomaly_score, seed, **options)
        for seed in tqdm(range(args.splits), leave=False)
    ]
    means_and_stds = np.mean(shares, axis=0), np.std(shares, axis=0)
    cells = [
        f"{mean:.3f} ({std:.3f})" for mean, std in zip(*means_and_stds, strict=True)
    ]
    print(f"| {title} | {anomaly_score} | {' | '.join(cells)} |", flush=True)


def simulate(n, anomaly_score, seed, has_copies=False, knows_groups=False):
    """Shares of unseen images at each of LEVELS, and of those predicted as -1."""
    rng = np.random.RandomState(seed)
    images = rng.permutation(load_digits().images)
    groups = None
    if has_copies:
        numbers = np.repeat(np.arange(n // N_COPIES), N_COPIES)
        groups = numbers if knows_groups else None
        images = images[np.r_[numbers, n // N_COPIES : len(images)]]
        images = images + rng.normal(scale=NOISE, size=images.shape)
    detector = AnoGANDetector(
        n_filters=8,
        max_epochs=20,
        n_candidates=256,
        anomaly_score=anomaly_score,
        random_state=seed,
    ).fit(images[:n], groups=groups)
    p = detector.p_values(images[n:])
    is_marked = detector.predict(images[n:]) == -1
    return [*((p <= level).mean() for level in LEVELS), is_marked.mean()]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n-train", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--splits", type=int, default=50)
    return parser.parse_args()


if __name__ == "__main__":
    main()
