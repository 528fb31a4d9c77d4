"""Time of the latent search: one image at a time, as usual, and as in this package.

Both search on the same trained networks. The usual search is torch's Adam on one image,
with the networks as they were trained; ours searches all images together.

    python benchmarks/latency.py --data DIR

DIR/mnist.npz holds MNIST as X_train, y_train, X_test, y_test; without --data the images
are scikit-learn's digits of 8x8 pixels.
"""

import argparse
import time

import numpy as np
import torch
from quality import describe_versions, load

from sklearn_anogan import AnoGANDetector


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="folder with mnist.npz")
    parser.add_argument("--n-plain", type=int, default=10, help="images searched alone")
    parser.add_argument("--n-images", type=int, default=640)
    args = parser.parse_args()
    X_train, y_train, X_test, _ = load("mnist" if args.data else "digits", args.data)
    X = np.resize(X_test, (args.n_images, *X_test.shape[1:]))
    detector = AnoGANDetector(random_state=0).fit(X_train[y_train == 1])

    print(describe_versions())
    print(f"images {X.shape}, {torch.get_num_threads()} threads\n")
    print("| search | steps | images | ms for each image | ratio | mean loss |")
    print("|---|---|---|---|---|---|")
    start = time.perf_counter()
    losses = [search_alone(detector, image) for image in X[: args.n_plain]]
    plain = (time.perf_counter() - start) / args.n_plain
    row("one image at a time", 500, args.n_plain, plain, 1, losses)
    for n_images, n_steps in [
        (args.n_images, 500),
        (args.n_images, detector.search_steps),
        (1, detector.search_steps),
    ]:
        detector.set_params(search_steps=n_steps)
        detector.score_samples(X[:n_images][:64])  # warm up
        start = time.perf_counter()
        losses = -detector.score_samples(X[:n_images])
        seconds = (time.perf_counter() - start) / n_images
        same = losses[: args.n_plain]
        row("AnoGANDetector", n_steps, n_images, seconds, plain / seconds, same)


def row(search, n_steps, n_images, seconds, ratio, losses):
    print(
        f"| {search} | {n_steps} | {n_images} | {1000 * seconds:.1f} | {ratio:.1f} | "
        f"{np.mean(losses):.4f} (of {len(losses)}) |",
        flush=True,
    )


def search_alone(detector, image, n_steps=500):
    """The paper's search for one image, in the plain way; returns the smallest loss."""
    images = detector._check_images(image[np.newaxis], reset=False)
    x = detector._value_range.to_network(images.read([0]), "cpu")
    G, D = detector.generator_, detector.discriminator_
    w = detector.discrimination_weight
    z = detector._draw(1, detector._start_seed).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=detector.search_lr)
    best = np.inf
    for _ in range(n_steps + 1):
        G_z = G(z)
        residual = (x - G_z).abs().mean()
        discrimination = (D.features(x) - D.features(G_z)).abs().mean()
        loss = (1 - w) * residual + w * discrimination
        best = min(best, loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return best


if __name__ == "__main__":
    main()
