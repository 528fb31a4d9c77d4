"""The latent search: its time, the loss it reaches and the ranking it gives.

Everything searches on the same trained networks, for the same test images, half of them
anomalies:

* the usual way, as research code does it: one image at a time, 500 steps of torch's
  Adam from a random start, the networks as they were trained, the features of the
  image computed anew in each step;
* `AnoGANDetector` with its default parameters, and with the paper's score only: with
  as many steps at a higher learning rate as reach the usual way's mean loss, with 25
  steps, with its default ones, with the paper's own search, without a step, and with
  the encoder's codes instead of a search;
* PyOD's AnoGAN, trained on the same images as rows.

Then the share of the machine's rate of matrix products that a step of the search takes.

    python benchmarks/latency.py --dataset mnist --normal 8 --data DIR --figure loss.png

DIR holds mnist.npz, fashion_mnist.npz (arrays X_train, y_train, X_test, y_test) and
magnetic_tile_64.npz; without it the images are scikit-learn's digits.
"""

import argparse
import time

import numpy as np
import torch
from quality import describe_versions, load
from sklearn.metrics import roc_auc_score
from torch.utils.flop_counter import FlopCounterMode

from sklearn_anogan import AnoGANDetector
from sklearn_anogan._images import resized
from sklearn_anogan._search import Searchers, SearchSettings
from sklearn_anogan._search._descent import Searches, learning_rates, step

USUAL_STEPS, USUAL_LR = 500, 0.05

#: Learning rate of the search for the loss, and the steps tried.
FAST_LR, FAST_STEPS = 0.2, (5, 10, 15, 20, 25, 30, 35, 40, 50, 60, 70, 80, 90, 100)


def main():
    args = parse_arguments()
    X_train, X, is_anomaly = load_one_class(args.dataset, args.normal, args.data)
    rng = np.random.RandomState(0)
    kept = np.concatenate(
        [
            rng.permutation(np.flatnonzero(is_anomaly == kind))[: args.n_images // 2]
            for kind in (False, True)
        ]
    )
    X, is_anomaly = X[kept], is_anomaly[kept]
    many = np.resize(X, (args.n_timed, *X.shape[1:]))
    detector = AnoGANDetector(
        inversion="encoder", memory=args.memory, random_state=0
    ).fit(X_train)
    detector.set_params(inversion="search", anomaly_score="anogan")
    detector.score_samples(X[:1])  # explores the latent space, once for each fit

    print(describe_versions())
    print(f"{args.dataset}, normal {args.normal}, trained on {X_train.shape}")
    print(f"{len(X)} images searched, {torch.get_num_threads()} threads\n")
    print("| search | passes | ms for an image | faster | mean loss | AUROC |")
    print("|---|---|---|---|---|---|")

    start = time.perf_counter()
    curves = np.array([search_alone(detector, image) for image in X])
    usual = (time.perf_counter() - start) / len(X)
    usual_loss = curves[:, -1].mean()

    def row(name, passes, seconds, mean_loss, losses):
        print(
            f"| {name} | {passes} | {1000 * seconds:.2f} | {usual / seconds:.1f} | "
            f"{mean_loss:.4f} | {roc_auc_score(is_anomaly, losses):.4f} |",
            flush=True,
        )

    def ours(name, images=many, anomaly_score="anogan", **settings):
        mean_loss = -detector.set_params(**settings).score_samples(X).mean()
        detector.set_params(anomaly_score=anomaly_score)
        losses = -detector.score_samples(X)
        start = time.perf_counter()
        detector.score_samples(images)
        seconds = (time.perf_counter() - start) / len(images)
        row(name, n_passes(detector), seconds, mean_loss, losses)
        detector.set_params(anomaly_score="anogan")

    row("one image at a time", USUAL_STEPS + 1, usual, usual_loss, curves[:, -1])
    fast, defaults = [], detector.get_params()
    detector.set_params(search_lr=FAST_LR)
    for n_steps in FAST_STEPS:
        scores = detector.set_params(search_steps=n_steps).score_samples(X)
        fast.append(-scores.mean())
        if fast[-1] <= usual_loss:
            break
    is_reached = fast[-1] <= usual_loss
    ours(f"AnoGANDetector, {'for that loss' if is_reached else 'most steps tried'}")
    defaults = {name: defaults[name] for name in ("search_steps", "search_lr")}
    ours("AnoGANDetector, default", anomaly_score="calibrated", **defaults)
    alone = {"images": X[:1], "anomaly_score": "calibrated"}
    ours("AnoGANDetector, default, one image alone", **alone)
    ours("AnoGANDetector, paper's score", **defaults)
    ours("AnoGANDetector, paper's score, 25 steps", search_steps=25)
    ours("AnoGANDetector, no step", search_steps=0)
    ours("AnoGANDetector, encoder", inversion="encoder")
    detector.set_params(inversion="search")
    paper = {"n_candidates": 1, "search_steps": USUAL_STEPS, "search_lr": USUAL_LR}
    ours("AnoGANDetector, the paper's search", many[:128], **paper)
    if args.pyod:
        from pyod.models.anogan import AnoGAN

        torch.manual_seed(0)
        rows = X_train.reshape(len(X_train), -1)[:2000] / 255
        start = time.perf_counter()
        pyod = AnoGAN().fit(rows)
        print(f"(PyOD fitted 2000 images in {time.perf_counter() - start:.0f} s)")
        start = time.perf_counter()
        losses = pyod.decision_function(X.reshape(len(X), -1) / 255)
        seconds = (time.perf_counter() - start) / len(X)
        row("PyOD's AnoGAN", "-", seconds, losses.mean(), losses)

    searcher, x = default_searcher(detector.model_), batch_of(detector.model_, X)
    flops, step_rate, product_rate = rates(searcher, x)
    pass_alone = time_a_pass(searcher.networks, x)
    print(
        f"\n{flops / 1e6:.1f} MFLOP for an image and pass, {step_rate / 1e9:.0f} "
        f"GFLOP/s in the search, {product_rate / 1e9:.0f} GFLOP/s in the product of "
        f"square matrices: {step_rate / product_rate:.0%}"
    )
    print(
        "One pass of encoder, generator and features alone, over scaled images in "
        f"memory: {1000 * pass_alone:.2f} ms for an image"
    )
    if args.figure:
        draw(args.figure, curves, fast, f"{args.dataset}, {args.normal} is normal")


def load_one_class(dataset, normal, folder):
    """Normal training images, test images, and which of these are anomalies."""
    if dataset == "magnetic_tile_64":
        with np.load(f"{folder}/{dataset}.npz") as data:
            return data["X_train"], data["X_test"], data["y_test"] == 1
    X_train, y_train, X_test, y_test = load(dataset, folder)
    return X_train[y_train == normal], X_test, y_test != normal


def search_alone(detector, image):
    """The usual search of one image; the smallest loss after every step."""
    model, w = detector.model_, detector.discrimination_weight
    G, D = model.generator, model.discriminator
    x = scaled(model, image[np.newaxis])
    # The start of the detector's own search, where that has a single candidate.
    z = model.draw(1, model.search_seed).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=USUAL_LR)
    losses = []
    for _ in range(USUAL_STEPS + 1):
        G_z = G(z)
        residual = (x - G_z).abs().mean()
        discrimination = (D.features(x) - D.features(G_z)).abs().mean()
        loss = (1 - w) * residual + w * discrimination
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return np.minimum.accumulate(losses)


def n_passes(detector):
    """Evaluations of the loss and its gradient in the search of an image, at most."""
    n_steps = detector.search_steps
    if n_steps == "auto":  # a sixth of the pixels that networks see along a side
        n_steps = max(5, int(np.sqrt(np.prod(detector.model_.network_shape)) / 6))
    return n_steps + 1


def scaled(model, X):
    """Images as the networks want them, shrunk where they are large."""
    x = model.value_range.to_network(torch.from_numpy(X)[:, None].double(), "cpu")
    return resized(x, model.network_shape)


def batch_of(model, X):
    """64 images, in the order in memory that the search gives them."""
    x = scaled(model, X[np.arange(64) % len(X)])
    return x.contiguous(memory_format=torch.channels_last)


def default_searcher(model):
    """What searches images by default."""
    defaults = AnoGANDetector()
    settings = SearchSettings(
        n_starts=1,
        n_candidates=defaults.n_candidates,
        n_steps=1,
        lr=defaults.search_lr,
        tol=defaults.tol,
        discrimination_weight=defaults.discrimination_weight,
        with_encoder=False,
    )
    return Searchers(model).make(torch.device("cpu"), settings)


def time_a_pass(networks, x):
    """Seconds that the networks take for an image, without anything around them."""
    G, f = networks.generator, networks.discriminator.features
    with torch.no_grad():
        return median_seconds(lambda: (f(x), f(G(networks.encoder(x))))) / len(x)


def rates(searcher, x):
    """FLOP for an image and pass; FLOP per second there, and of matrix products."""
    G, f = searcher.networks.generator, searcher.networks.discriminator.features
    f_x = f(x)
    searches = Searches.begin(searcher.exploration.candidates, torch.arange(len(x)))

    def loss(u):
        G_z = G(searches.z + searcher.exploration.coordinates(u))
        dims = (1, 2, 3)
        return (x - G_z).abs().mean(dims) + (f_x - f(G_z)).abs().mean(dims)

    table = learning_rates(searcher.settings.n_steps, searcher.settings.lr).to(x)
    with FlopCounterMode(display=False) as counter:
        loss(searches.u.clone().requires_grad_()).sum().backward()
    flops = counter.get_total_flops()
    A = torch.randn(2048, 2048)
    seconds = median_seconds(lambda: step(loss, searches, table))
    product = 2 * len(A) ** 3 / median_seconds(lambda: A @ A)
    return flops / len(x), flops / seconds, product


def median_seconds(function, n_times=30):
    times = []
    for _ in range(n_times):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return np.median(times[5:])


def draw(path, curves, fast, title):
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(figsize=(5, 3.5), layout="constrained")
    ax.plot(np.arange(1, len(curves[0]) + 1), curves.mean(0), label="random start")
    passes = np.array(FAST_STEPS[: len(fast)]) + 1
    ax.plot(passes, fast, "o-", label="nearest candidate, evened-out steps")
    ax.axhline(curves[:, -1].mean(), color="0.7", zorder=0)
    ax.set(xscale="log", xlabel="generator passes", ylabel="mean loss", title=title)
    ax.legend(frameon=False)
    plt.savefig(path, dpi=150)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    datasets = ["digits", "mnist", "fashion_mnist", "magnetic_tile_64"]
    parser.add_argument("--dataset", choices=datasets, default="digits")
    parser.add_argument("--normal", type=int, default=1, help="the normal class")
    parser.add_argument("--data", help="folder with the .npz files")
    parser.add_argument("--n-images", type=int, default=200)
    parser.add_argument("--n-timed", type=int, default=1024)
    parser.add_argument("--pyod", action="store_true", help="compare PyOD's AnoGAN")
    parser.add_argument("--memory", help="folder that keeps trained networks")
    parser.add_argument("--figure", help="file for a figure of loss against passes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
