"""Images of many bands: what is found, and how long it takes.

Real images are turned into images of many bands. The colours of a pixel, and their
products, are mixed into bands by smooth random spectra. Light of another spectrum falls
on each image, and each pixel has smooth and white noise over the bands. 60 images
without a defect are fitted; other images are scored:

* "defects" are the real ones of the set;
* "spectra" are normal images with a square in which pixels get another smooth spectrum,
  in part, with the brightness that they had;
* "bands" are normal images with a square in which a few bands are brighter.

A cell has the AUROC of images / of pixels, the mean over the seeds. "pixels" is the
residual of PCA of whole images, "spectra" the Mahalanobis distance of the spectrum of a
pixel; both rank images by the 99th percentile of their maps.

    python benchmarks/channels.py --sets bottle tiles --sides 16 --bands 40 --data DIR
    python benchmarks/channels.py --time 16x16x200 32x32x200 8x8x300

DIR is that of `localization.py`. --time fits 60 images of noise. Seconds are those that
the process computed, on one thread: what else the machine does counts little.
"""

import argparse
import resource
import time
import warnings

import numpy as np
import torch
from localization import load
from scipy.ndimage import gaussian_filter1d
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from sklearn_anogan import AnoGANDetector

#: Normal images to fit, and to score for each kind.
N_FIT, N_SCORED = 60, 40

#: Share of another spectrum, brightness of a band, and bands that are brighter.
SHARE, BRIGHTER, N_BRIGHTER = 0.25, 0.15, 2

KINDS = ("defects", "spectra", "bands")


def main():
    args = parse_arguments()
    if args.time:
        measure_time(args.time)
        return
    print(
        f"\n| | {' | '.join(KINDS)} | fit [s] | score [ms/image] |\n|---{'|---' * 5}|"
    )
    for name in args.sets:
        for side in args.sides:
            for n_bands in args.bands:
                rows = {}
                for seed in args.seeds:
                    data = make(load(name, args.data, 0), side, n_bands, seed)
                    for title, detector in detectors(args.max_epochs, seed).items():
                        found = measure(detector, *data)
                        rows.setdefault(title, []).append(found)
                for title, found in rows.items():
                    cells = np.mean(found, 0)
                    pairs = [f"{a:.3f} / {b:.3f}" for a, b in cells[:6].reshape(3, 2)]
                    cells = [*pairs, f"{cells[6]:.1f}", f"{cells[7]:.1f}"]
                    title = f"{name} {side} px, {n_bands} bands: {title}"
                    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def make(data, side, n_bands, seed):
    """Images to fit, and for each kind images and masks, the normal ones first."""
    rng = np.random.RandomState(seed)
    y = data["y"]
    X = np.concatenate([data["X_train"], data["X_test"]]).astype(np.float32) / 255
    colours = shrunk(X if X.ndim == 4 else X[..., None], side, adaptive_avg_pool2d)
    n_train = len(data["X_train"])
    order = rng.permutation(n_train)
    fitted, usual, *others = np.split(order[: N_FIT + 3 * N_SCORED], [60, 100, 140])
    tested = n_train + np.flatnonzero(~y)
    defective = n_train + rng.permutation(np.flatnonzero(y))[:N_SCORED]
    masks = data["masks"][..., None].astype(np.float32)
    masks = shrunk(masks, side, adaptive_max_pool2d)[..., 0] > 0

    spectra = smooth_spectra(rng, 2 * colours.shape[-1], n_bands)
    light = smooth_spectra(rng, 2, n_bands)

    def banded(index):
        mixed = np.concatenate([colours[index], colours[index] ** 2], -1) @ spectra
        tint = rng.normal(scale=0.1, size=(len(index), 1, 1, 2)) @ (light - 0.5)
        noise = rng.normal(size=mixed.shape)
        noise = 0.02 * noise + 0.05 * gaussian_filter1d(noise, n_bands / 10, axis=-1)
        return (mixed * (1 + tint) + 0.1 * noise).astype(np.float32)

    places = np.zeros((N_SCORED, side, side), bool)
    edge = max(2, side // 8)
    for place in places:
        top, left = rng.randint(side - edge, size=2)
        place[top : top + edge, left : left + edge] = True
    normal, by_spectrum, by_band = map(banded, (usual, *others))
    for image, place in zip(by_spectrum, places, strict=True):
        other = smooth_spectra(rng, 1, n_bands)[0]
        was = image[place]
        new = was.mean(1, keepdims=True) * other / other.mean()
        image[place] = (1 - SHARE) * was + SHARE * new
    for image, place in zip(by_band, places, strict=True):
        for band in rng.permutation(n_bands)[:N_BRIGHTER]:
            image[place, band] += BRIGHTER
    none = np.zeros((len(tested), side, side), bool)
    return banded(fitted), {
        "defects": (
            np.concatenate([banded(tested), banded(defective)]),
            np.concatenate([none, masks[defective - n_train]]),
        ),
        "spectra": (
            np.concatenate([normal, by_spectrum]),
            np.concatenate([0 * places, places]),
        ),
        "bands": (
            np.concatenate([normal, by_band]),
            np.concatenate([0 * places, places]),
        ),
    }


def shrunk(X, side, pool):
    x = torch.from_numpy(X).movedim(-1, 1)
    return pool(x, (side, side)).movedim(1, -1).numpy()


def smooth_spectra(rng, n, n_bands):
    """Positive and smooth, (n, n_bands), with a mean of .5."""
    steps = np.arange(200) / 20
    spectra = gaussian_filter1d(rng.normal(size=(n, 200)), 20)
    spectra -= spectra.min(1, keepdims=True)
    spectra /= 2 * spectra.mean(1, keepdims=True)
    at = np.linspace(0, steps[-1], n_bands)
    return np.stack([np.interp(at, steps, each) for each in spectra])


class Mapped:
    def score_samples(self, X):
        return -np.quantile(self.anomaly_map(X), 0.99, axis=(1, 2))


class Pixels(Mapped):
    """What the principal components of whole images leave."""

    def fit(self, X):
        self.pca = PCA(16, random_state=0).fit(X.reshape(len(X), -1))
        return self

    def anomaly_map(self, X):
        flat = X.reshape(len(X), -1)
        left = flat - self.pca.inverse_transform(self.pca.transform(flat))
        return np.square(left).reshape(X.shape).mean(-1)


class Spectra(Mapped):
    """The Mahalanobis distance of the spectrum of a pixel."""

    def fit(self, X):
        self.covariance = LedoitWolf().fit(X.reshape(-1, X.shape[-1])[::3])
        return self

    def anomaly_map(self, X):
        flat = X.reshape(-1, X.shape[-1])
        return self.covariance.mahalanobis(flat).reshape(X.shape[:3])


def detectors(max_epochs, seed):
    return {
        "AnoGANDetector": AnoGANDetector(max_epochs=max_epochs, random_state=seed),
        "pixels": Pixels(),
        "spectra": Spectra(),
    }


def measure(detector, X, kinds):
    """AUROC of images and of pixels of each kind, seconds, and milliseconds."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.fit(X)
    of_fit = time.process_time() - start
    cells, start = [], time.process_time()
    for images, masks in kinds.values():
        y = masks.any((1, 2))
        maps = detector.anomaly_map(images)
        cells.append(roc_auc_score(y, -detector.score_samples(images)))
        cells.append(roc_auc_score(masks.ravel(), maps.ravel()))
    n_images = sum(len(images) for images, _ in kinds.values())
    return [*cells, of_fit, (time.process_time() - start) / n_images * 1000]


def measure_time(sizes):
    print("| size | fit [s] | score [ms/image] | map [ms/image] | MiB |")
    print(f"|---{'|---' * 4}|")
    for size in sizes:
        height, width, n_bands = map(int, size.split("x"))
        rng = np.random.RandomState(0)
        spectra = smooth_spectra(rng, 6, n_bands)
        X = rng.uniform(size=(N_FIT, height, width, 6)) @ spectra
        X = X.astype(np.float32)
        before, times = memory(), [time.process_time()]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector = AnoGANDetector(random_state=0).fit(X)
        times.append(time.process_time())
        detector.score_samples(X[:32])
        times.append(time.process_time())
        detector.anomaly_map(X[:32])
        times.append(time.process_time())
        fit, score, of_map = np.diff(times)
        print(
            f"| {size} | {fit:.1f} | {score / 32 * 1000:.1f} | "
            f"{of_map / 32 * 1000:.1f} | {memory() - before} |",
            flush=True,
        )


def memory():
    """The most memory that was needed so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="data")
    parser.add_argument("--sets", nargs="+", default=["bottle", "tiles-64"])
    parser.add_argument("--sides", type=int, nargs="+", default=[16])
    parser.add_argument("--bands", type=int, nargs="+", default=[40])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--max-epochs", type=lambda n: n if n == "auto" else int(n), default="auto"
    )
    parser.add_argument("--time", nargs="+", metavar="HxWxC")
    return parser.parse_args()


if __name__ == "__main__":
    main()
