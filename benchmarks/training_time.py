"""The time of a default `fit` and of scoring, of images of several sizes and of rows.

    python benchmarks/training_time.py

What the images show does not change the time, so all but the digits are made up. The
median of three fits where a fit takes seconds, and of one where it takes a minute. The
rate of the training steps is a share of the machine's rate of matrix products.
"""

import argparse
import time
import warnings
from contextlib import contextmanager

import numpy as np
import torch
from latency import median_seconds
from quality import describe_versions
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from torch.utils.flop_counter import FlopCounterMode

from sklearn_anogan import AnoGANDetector
from sklearn_anogan._training._nets import GANNet

#: Name of a set -> shape of X, and fits.
SHAPES = {
    "91 of 8x8": ((91, 8, 8), 3),
    "6000 of 28x28": ((6000, 28, 28), 1),
    "761 of 64x64": ((761, 64, 64), 1),
    "300 of 128x128x3": ((300, 128, 128, 3), 1),
    "3000 rows of 20 numbers": ((3000, 20), 3),
}

_N_SCORED = 200


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=SHAPES, default=list(SHAPES))
    sets = parser.parse_args().sets
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{describe_versions()}, {torch.get_num_threads()} threads\n")
    AnoGANDetector(max_epochs=1, n_filters=4).fit(load_digits().images[:50])  # warm up
    print(
        "| images | fit [s] | score [ms an image] | share of training | ms a step | "
        "of matrix products |\n|---|---|---|---|---|---|"
    )
    for name in sets:
        shape, n_fits = SHAPES[name]
        fits = [time_fit(make_images(shape)) for _ in range(n_fits)]
        seconds, score, training, step, rate = np.median(fits, axis=0)
        print(
            f"| {name} | {seconds:.1f} | {1000 * score:.1f} | "
            f"{training / seconds:.0%} | {1000 * step:.1f} | {rate:.0%} |",
            flush=True,
        )


def make_images(shape):
    """Digits, or smooth noise."""
    if shape[1:] == (8, 8):
        digits = load_digits()
        return digits.images[digits.target == 8][: shape[0]]
    X = np.random.RandomState(0).rand(*shape)
    if len(shape) == 2:
        return gaussian_filter(X, (0, 2))
    X = gaussian_filter(X, (0, 3, 3, 0)[: len(shape)])
    return (255 * (X - X.min()) / np.ptp(X)).astype(np.uint8)


def time_fit(X):
    """Seconds of a fit, a score, the training and a step; the rate of the step."""
    detector = AnoGANDetector(random_state=0)
    with timed(NeuralNet, "fit_loop") as loops, timed(GANNet, "train_step") as steps:
        begun = time.perf_counter()
        detector.fit(X)
        seconds = time.perf_counter() - begun
    X = np.resize(X, (_N_SCORED, *X.shape[1:]))
    begun = time.perf_counter()
    detector.score_samples(X)
    score = (time.perf_counter() - begun) / len(X)
    step = np.median([own for own, _ in steps])
    with FlopCounterMode(display=False) as counter:
        GANNet.train_step(*steps[-1][1])  # one more, after the time was taken
    A = torch.randn(1024, 1024)
    product_rate = 2 * len(A) ** 3 / median_seconds(lambda: A @ A)
    rate = counter.get_total_flops() / step / product_rate
    return seconds, score, sum(own for own, _ in loops), step, rate


@contextmanager
def timed(cls, name):
    """Meanwhile, collect the seconds and arguments of each call of a method."""
    method, calls = getattr(cls, name), []

    def measured(*args, **kwargs):
        begun = time.perf_counter()
        result = method(*args, **kwargs)
        calls.append((time.perf_counter() - begun, args))
        return result

    setattr(cls, name, measured)
    try:
        yield calls
    finally:
        setattr(cls, name, method)


if __name__ == "__main__":
    main()
