"""How often p-values and the threshold take unseen normal images for anomalies.

All digits of 8x8 pixels are normal. Again and again, some of them are drawn to fit a
small detector, and the others are unseen: the share of them whose p-value is at most a
should be a in the mean, and not more.
"""

import argparse

import numpy as np
import torch
from quality import describe_versions
from sklearn.datasets import load_digits
from tqdm import tqdm

from sklearn_anogan import AnoGANDetector

LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def main():
    args = parse_arguments()
    print(f"{describe_versions()}, {torch.get_num_threads()} threads", flush=True)
    images = load_digits().images
    cells = " | ".join(f"p <= {level}" for level in LEVELS)
    print(f"| images, held out | score | {cells} | predict |\n|---{'|---' * 8}|")
    for n in args.n_train:
        for anomaly_score in ("calibrated", "anogan"):
            shares = [
                simulate(images, n, anomaly_score, seed)
                for seed in tqdm(range(args.splits), leave=False)
            ]
            cells = " | ".join(
                f"{mean:.3f} ({std:.3f})"
                for mean, std in zip(
                    np.mean(shares, axis=0), np.std(shares, axis=0), strict=True
                )
            )
            print(f"| {n}, {n // 10} | {anomaly_score} | {cells} |", flush=True)


def simulate(images, n, anomaly_score, seed):
    """Shares of unseen images at each of LEVELS, and of those predicted as -1."""
    images = images[np.random.RandomState(seed).permutation(len(images))]
    detector = AnoGANDetector(
        n_filters=8,
        max_epochs=20,
        n_candidates=256,
        anomaly_score=anomaly_score,
        random_state=seed,
    ).fit(images[:n])
    p = detector.p_values(images[n:])
    is_marked = detector.predict(images[n:]) == -1
    return [*((p <= level).mean() for level in LEVELS), is_marked.mean()]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n-train", type=int, nargs="+", default=[100, 400, 1000])
    parser.add_argument("--splits", type=int, default=50)
    return parser.parse_args()


if __name__ == "__main__":
    main()
