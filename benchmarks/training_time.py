"""The time of a default `fit`: this working tree against an earlier commit.

Every fit runs in a process of its own, in turn: earlier, now, earlier, now. What the
images show does not change the time, so all but the digits are made up.

    git worktree add --detach EARLIER f1748e7
    python benchmarks/training_time.py --earlier EARLIER
    python benchmarks/training_time.py --earlier EARLIER --figure training_time.png

A second table has the rate of the training steps of this tree, as a share of the
machine's rate of matrix products. With --profile, a third table has where the time
goes, by cProfile, which makes Python's own part look larger than it is; --figure draws
it, too.

Earlier fits of large images take up to hours. So the earlier time of these sets is
extrapolated from two short fits: each epoch adds the same time. OMP_NUM_THREADS sets
the number of threads, as always.
"""

import argparse
import cProfile
import json
import math
import os
import pstats
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from torch.utils.flop_counter import FlopCounterMode

import sklearn_anogan
from sklearn_anogan import AnoGANDetector

#: Name of a set -> shape of X.
SHAPES = {
    "digits": (91, 8, 8),
    "28x28": (6000, 28, 28),
    "64x64": (761, 64, 64),
    "128x128x3": (300, 128, 128, 3),
    "rows": (3000, 20),
}

#: Sets whose earlier time is extrapolated -> the numbers of epochs of two short fits.
SHORT_FITS = {"64x64": (1, 3), "128x128x3": (1, 2)}

#: Defaults of the earlier commit.
EARLIER_BATCH_SIZE, EARLIER_STEPS = 64, 1500

#: Parts of a fit that grow with the number of epochs.
OF_TRAINING = {
    "training",
    "backward passes",
    "optimizer and average",
    "forward passes and losses",
    "loop, batches, history",
}

THIS_TREE = Path(__file__).resolve().parents[1]


def main():
    args = parse_arguments()
    if args.child:
        print(json.dumps(run_child(args)))
    else:
        compare(args)


def compare(args):
    from quality import describe_versions  # not for the children: it is of this tree

    print(describe_versions())
    print(f"{torch.get_num_threads()} threads, median of {args.repeat}\n")
    print(
        "| set | earlier [s] | now [s] | times faster | "
        "earlier: training / rest | now: training / rest |"
    )
    print("|---|---|---|---|---|---|")
    rates = {name: compare_times(args, name) for name in args.sets}
    print("\n| set | ms a step | GFLOP/s | share of matrix-product rate |")
    print("|---|---|---|---|")
    for name, (seconds, rate, share) in rates.items():
        print(f"| {name} | {1000 * seconds:.2f} | {rate / 1e9:.1f} | {share:.1%} |")
    if args.profile or args.figure:
        profiles = profile_sets(args)
        if args.figure:
            draw(args.figure, profiles)


def compare_times(args, name):
    """Print a row of the first table; return the figures for the second."""
    pairs, rates = [], []
    for _ in range(args.repeat):
        earlier = time_earlier(args.earlier, name)
        now = start_child(THIS_TREE, name, "auto", "--rates")
        pairs.append((*earlier, now["training"] + now["rest"], now["training"]))
        rates.append((now["step"], now["rate"], now["rate"] / now["product_rate"]))
    pairs = np.array(pairs)
    earlier, earlier_training, now, now_training = pairs.T
    mark = " (extrapolated)" if name in SHORT_FITS else ""
    print(
        f"| {name} | {np.median(earlier):.1f}{mark} | {np.median(now):.1f} | "
        f"{np.median(earlier / now):.1f} | {parts(earlier_training / earlier)} | "
        f"{parts(now_training / now)} |",
        flush=True,
    )
    return np.median(rates, axis=0)


def parts(shares):
    share = np.median(shares)
    return f"{share:.0%} / {1 - share:.0%}"


def time_earlier(tree, name):
    """Seconds of the earlier fit, and of the training in it."""
    found = earlier_parts(tree, name)
    return found["training"] + found["rest"], found["training"]


def earlier_parts(tree, name, *options):
    """Name of a part of the earlier fit -> seconds; extrapolated where it is long."""
    if name not in SHORT_FITS:
        return start_child(tree, name, "auto", *options)
    few, more = SHORT_FITS[name]
    short, longer = (start_child(tree, name, n, *options) for n in (few, more))
    n = SHAPES[name][0]
    n_epochs = math.ceil(EARLIER_STEPS / ((n - n // 10) // EARLIER_BATCH_SIZE))
    growth = (n_epochs - few) / (more - few)
    return {
        part: short[part] + growth * max(longer[part] - short[part], 0)
        if part in OF_TRAINING
        # Does not depend on the epochs: its noise must not be extrapolated.
        else (short[part] + longer[part]) / 2
        for part in short
    }


def profile_sets(args):
    """Print the third table; return the shares, name of a bar -> part -> share."""
    profiles = {}
    for name in args.sets:
        found = {
            "earlier": earlier_parts(args.earlier, name, "--profile"),
            "now": start_child(THIS_TREE, name, "auto", "--profile"),
        }
        for when, parts in found.items():
            total = sum(parts.values())
            profiles[f"{name}, {when}"] = {
                part: value / total for part, value in parts.items()
            }
    columns = list(next(iter(profiles.values())))
    print("\nShares of the fit's time in percent, under the profiler.\n")
    print(f"| fit | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for bar, shares in profiles.items():
        cells = " | ".join(f"{100 * share:.1f}" for share in shares.values())
        print(f"| {bar} | {cells} |")
    return profiles


def start_child(tree, name, epochs, *options):
    """What a fit in a process of its own, with the package of this tree, tells."""
    command = [sys.executable, __file__, "--child", name, "--epochs", str(epochs)]
    done = subprocess.run(
        [*command, *options],
        env=os.environ | {"PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def run_child(args):
    tree = Path(os.environ["PYTHONPATH"]).resolve()
    found = Path(sklearn_anogan.__file__).resolve()
    if found.parents[1] != tree:
        raise RuntimeError(f"the package is {found}, not that of {tree}")
    warnings.simplefilter("ignore", ConvergenceWarning)
    X = make_images(args.child)
    AnoGANDetector(max_epochs=1, n_filters=4).fit(load_digits().images[:50])  # warm up
    epochs = "auto" if args.epochs == "auto" else int(args.epochs)
    detector = AnoGANDetector(max_epochs=epochs, random_state=0)
    if args.profile:
        return profile_fit(detector, X)
    return time_fit(detector, X, with_rates=args.rates)


def make_images(name):
    """The digits, or smooth noise."""
    shape = SHAPES[name]
    if name == "digits":
        digits = load_digits()
        return digits.images[digits.target == 8][: shape[0]]
    X = np.random.RandomState(0).rand(*shape)
    if len(shape) == 2:
        return gaussian_filter(X, (0, 2))
    X = gaussian_filter(X, (0, 3, 3, 0)[: len(shape)])
    return (255 * (X - X.min()) / np.ptp(X)).astype(np.uint8)


def time_fit(detector, X, with_rates):
    """Seconds of a fit and of the training in it; if wanted, rates of its steps."""
    loops, _ = time_calls(NeuralNet, "fit_loop")
    if with_rates:
        # Not at the top: the earlier tree has other modules.
        from latency import median_seconds

        from sklearn_anogan._training._nets import GANNet

        train_step = GANNet.train_step
        steps, last = time_calls(GANNet, "train_step")
    start = time.perf_counter()
    detector.fit(X)
    seconds = time.perf_counter() - start
    found = {"training": sum(loops), "rest": seconds - sum(loops)}
    if with_rates:
        with FlopCounterMode(display=False) as counter:
            train_step(*last["arguments"])  # one step more, after the time was taken
        A = torch.randn(1024, 1024)
        found["step"] = np.median(steps)
        found["rate"] = counter.get_total_flops() / found["step"]
        found["product_rate"] = 2 * len(A) ** 3 / median_seconds(lambda: A @ A)
    return found


def time_calls(cls, name):
    """From now on, collect the seconds of each call of a method, and keep the last."""
    method, seconds, last = getattr(cls, name), [], {}

    def timed(*args, **kwargs):
        last["arguments"] = args
        start = time.perf_counter()
        result = method(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
        return result

    setattr(cls, name, timed)
    return seconds, last


def profile_fit(detector, X):
    """Seconds of the parts of a fit, which make up all of it."""
    profiler = cProfile.Profile()
    start = time.perf_counter()
    profiler.runcall(detector.fit, X)
    total = time.perf_counter() - start
    calls = pstats.Stats(profiler).stats

    def cumulative(file, name, caller=None):
        """Seconds in a function with all it calls; if wanted, for one caller only."""
        seconds = 0.0
        for (path, _, function), (*_, of_all, callers) in calls.items():
            if (Path(path).name, function) != (file, name):
                continue
            by_caller = [
                entry[-1] for (*_, by), entry in callers.items() if by == caller
            ]
            seconds += of_all if caller is None else sum(by_caller)
        return seconds

    # The search asks autograd for gradients, too, but by another function.
    backward = cumulative("graph.py", "_engine_run_backward", "backward")
    optimizer = cumulative("optimizer.py", "wrapper")
    optimizer += cumulative("_nets.py", "_update_average")
    step = cumulative("_nets.py", "train_step")
    loop = cumulative("net.py", "fit_loop")
    # In the earlier tree, `explore` measures batch sizes and `_adopt` calibrates.
    candidates = cumulative("_searcher.py", "_explore") or cumulative(
        "_inversion.py", "explore"
    )
    held_out = cumulative("_detector.py", "_calibrate")
    held_out += cumulative("_detector.py", "_adopt")
    ruler = cumulative("_ruler.py", "learn_ruler")
    if not all([backward, optimizer, step, loop, candidates, held_out]):
        raise RuntimeError("a function of the profile has another name by now")
    return {
        "backward passes": backward,
        "optimizer and average": optimizer,
        "forward passes and losses": step - backward - optimizer,
        "loop, batches, history": loop - step,
        "ruler": ruler,
        "candidates": candidates,
        "held-out images": held_out - candidates,
        "other": total - loop - ruler - held_out,
    }


def draw(path, profiles):
    import matplotlib.pyplot as plt

    height = 1.2 + 0.4 * len(profiles)
    _, ax = plt.subplots(figsize=(9, height), layout="constrained")
    left = np.zeros(len(profiles))
    for number, part in enumerate(next(iter(profiles.values()))):
        shares = np.array([100 * shares[part] for shares in profiles.values()])
        ax.barh(list(profiles), shares, left=left, label=part, color=f"C{number}")
        left += shares
    ax.set(xlabel="percent of the fit's time", xlim=(0, 100))
    ax.invert_yaxis()  # the first one on top
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    plt.savefig(path, dpi=150)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--earlier", help="working tree of the earlier commit")
    sets = list(SHAPES)
    parser.add_argument("--sets", nargs="+", choices=sets, default=sets)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    parser.add_argument("--figure", help="file for a figure of the profile")
    # What this script starts itself with, for each fit:
    parser.add_argument("--child", choices=sets, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", default="auto", help=argparse.SUPPRESS)
    parser.add_argument("--rates", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (args.child or args.earlier):
        parser.error("--earlier is needed, see the top of this file")
    return args


if __name__ == "__main__":
    main()
