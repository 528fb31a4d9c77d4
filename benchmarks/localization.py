"""Where is it anomalous: magnetic tiles, their maps against the masks of the defects.

Every detector is fitted to tiles without a defect. Its maps of all test tiles are
compared with the masks, pixel by pixel:

* AUROC of pixels: all pixels of all test tiles in one ranking;
* AUPRO: the share of a defect that is found, the mean over all connected defects, as a
  function of the share of pixels marked by mistake, integrated up to 30 % of these and
  divided by it (Bergmann et al. 2020, "Uninformed students", section 4.1);
* AUROC of images, by the scores of the detector.

    python benchmarks/localization.py --size 64 --data DIR
    python benchmarks/localization.py --size 256 --data DIR
    python benchmarks/localization.py --memory

Tiles of 64 pixels are taken as a whole, those of 256 in patches of 32. Beside ours: the
residual of 32 principal components of whole tiles; IsolationForest on the same patches
(of 8 pixels for small tiles); and raw brightness, the difference of a pixel from the
mean brightness of the training tiles. The image score of those that have only a map is
its 99 % quantile. --memory scores one image of 4096 x 4096 pixels from a memory map and
tells how much memory that took.

DIR holds magnetic_tile_64.npz and magnetic_tile_256.npz with arrays X_train, X_test,
y_test and mask_test.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from quality import describe_versions
from scipy.ndimage import label
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from sklearn_anogan import AnoGANDetector, PatchDetector

#: Share of pixels marked by mistake up to which AUPRO integrates.
MOST_FALSE = 0.3

#: Side of a patch and distance to the next one, for the tiles of 256 pixels.
PATCH, STRIDE = 32, 16

#: Ours are larger and shrunk, chosen on held-out tiles with synthetic defects.
OURS = {"patch_shape": 128, "stride": 32, "downsampling": 4, "aggregation": "mean"}


class MapOnly:
    """A detector of whole tiles that ranks them by a quantile of their maps."""

    def score_samples(self, X):
        return -np.quantile(self.anomaly_map(X), 0.99, axis=(1, 2))


class Brightness(MapOnly):
    """How far a pixel is from the mean brightness of the training tiles."""

    def fit(self, X):
        self.mean = X.mean()
        return self

    def anomaly_map(self, X):
        return np.abs(X - self.mean)


class PCAResidual(MapOnly):
    """What 32 principal components leave of a tile."""

    def fit(self, X):
        self.pca = PCA(32, svd_solver="randomized", random_state=0).fit(flat(X))
        return self

    def anomaly_map(self, X):
        residual = flat(X) - self.pca.inverse_transform(self.pca.transform(flat(X)))
        return np.abs(residual).reshape(X.shape)


def flat(X):
    return X.reshape(len(X), -1).astype(np.float32)


def main():
    args = parse_arguments()
    print(f"{describe_versions()}, {torch.get_num_threads()} threads", flush=True)
    if args.memory:
        measure_memory()
        return
    with np.load(Path(args.data, f"magnetic_tile_{args.size}.npz")) as data:
        X_train, X_test = data["X_train"], data["X_test"]
        masks, is_anomaly = data["mask_test"] > 0, data["y_test"] == 1
    columns = "AUROC of pixels | AUPRO | AUROC of images | fit [s] | map [ms/image]"
    print(f"| {args.size} pixels | {columns} | score [ms/image] |\n|---{'|---' * 6}|")
    for name, detector in detectors(args.size, args.seed).items():
        if name not in args.detectors:
            continue
        times = [time.perf_counter()]
        detector.fit(X_train)
        times.append(time.perf_counter())
        maps = np.asarray(detector.anomaly_map(X_test), dtype=np.float32)
        times.append(time.perf_counter())
        scores = detector.score_samples(X_test)
        times.append(time.perf_counter())
        fit, *seconds = np.diff(times)
        cells = [
            f"{roc_auc_score(masks.ravel(), maps.ravel()):.4f}",
            f"{aupro(masks, maps):.4f}",
            f"{roc_auc_score(is_anomaly, -scores):.4f}",
            f"{fit:.0f}",
            *(f"{1000 * each / len(X_test):.1f}" for each in seconds),
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def detectors(size, seed):
    """Name -> detector."""
    ours, forest = AnoGANDetector(random_state=seed), IsolationForest(random_state=seed)
    patches = {"patch_shape": 8, "random_state": seed}
    found = {"AnoGANDetector": ours}
    if size == 256:
        patches = {"patch_shape": PATCH, "stride": STRIDE, "random_state": seed}
        ours = PatchDetector(ours, random_state=seed, **OURS)
        found = {"PatchDetector(AnoGANDetector)": ours}
    return found | {
        "PatchDetector(IsolationForest)": PatchDetector(forest, **patches),
        "PCA residual": PCAResidual(),
        "brightness": Brightness(),
    }


def aupro(masks, maps):
    """Area under the per-region overlap, up to MOST_FALSE of false positives."""
    false_shares = np.linspace(0, MOST_FALSE, 301)
    thresholds = np.quantile(maps[~masks], 1 - false_shares)
    overlaps = []
    for mask, one in zip(masks, maps, strict=True):
        regions, n_regions = label(mask, np.ones((3, 3)))
        for number in range(1, n_regions + 1):
            inside = np.sort(one[regions == number])
            overlaps.append(
                1 - np.searchsorted(inside, thresholds, "right") / len(inside)
            )
    return np.trapezoid(np.mean(overlaps, axis=0), false_shares) / MOST_FALSE


def measure_memory():
    """Score and map one large image, held in a file."""
    rng = np.random.RandomState(0)
    small = rng.randint(0, 256, size=(50, 64, 64)).astype(np.uint8)
    fast = AnoGANDetector(n_filters=8, max_epochs=1, search_steps=1, random_state=0)
    detector = PatchDetector(
        fast, patch_shape=PATCH, stride=PATCH, n_patches=500, random_state=0
    ).fit(small)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.npy")
        for side in (512, 4096):
            X = np.lib.format.open_memmap(
                path, "w+", dtype=np.uint8, shape=(1, side, side)
            )
            for row in X[0]:
                row[:] = rng.randint(0, 256, size=side)
            X = np.load(path, mmap_mode="r")
            before = peak_memory()
            begun = time.perf_counter()
            detector.score_samples(X)
            scored = time.perf_counter()
            after_scores = peak_memory()
            n_map = detector.anomaly_map(X).nbytes / 2**20
            print(
                f"{side} x {side}: scored in {scored - begun:.1f} s with "
                f"{after_scores - before:.0f} MB more than before; a map of "
                f"{n_map:.0f} MB took {peak_memory() - after_scores:.0f} MB more",
                flush=True,
            )


def peak_memory():
    """Of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [*detectors(64, 0), *detectors(256, 0)]
    parser.add_argument("--size", type=int, choices=(64, 256), default=64)
    parser.add_argument("--data", help="folder with the .npz files")
    parser.add_argument("--detectors", nargs="+", choices=names, default=names)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    if args.data is None and not args.memory:
        parser.error("--data is needed")
    return args


if __name__ == "__main__":
    main()
