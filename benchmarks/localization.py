"""Where is it anomalous: maps of real parts and surfaces against the defects' masks.

Every detector is fitted to images without a defect. Its maps of all test images are
compared with the masks, pixel by pixel:

* AUROC and average precision of pixels: all pixels of all test images in one ranking;
* AUPRO: the share of a defect that is found, the mean over all connected defects, as a
  function of the share of pixels marked by mistake, integrated up to 30 % of these and
  divided by it (Bergmann et al. 2020, "Uninformed students", section 4.1);
* AUROC of images, by the scores of the detector;
* what `predict` finds: the share of defective images that it marks, and the share of
  normal ones.

    python benchmarks/localization.py --sets tiles-64 tiles-256 --data DIR
    python benchmarks/localization.py --sets bottle kolektor bsdata tiles --data DIR
    python benchmarks/localization.py --memory

The sets: bottles (aligned, in colour), commutators with cracks (kolektor), pitted ball
screws (bsdata, in colour) and magnetic tiles (tiles), of 128 pixels; the tiles with a
random split instead of one that keeps similar tiles together (tiles-random); and the
tiles of 64 and of 256 pixels. AnoGANDetector takes all as a whole; on request, also in
patches of 64 pixels. Beside ours, the maps of `baselines.py`; IsolationForest on
patches of 8 pixels (32 for tiles of 256); and the difference of a pixel from the mean
brightness of the training images. Where each defective image is matched with a normal
one of about the same time (bsdata), the AUROC of images is that of the matched ones.
--memory scores one image of 4096 x 4096 pixels from a memory map and tells how much
memory that took.

DIR holds mvtec_bottle_128.npz, kolektor_128.npz, bsdata_128.npz, magnetic_tile_64.npz
and magnetic_tile_256.npz, with arrays X_train, X_test, y_test and mask_test.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from baselines import FilterGaussian, FilterNeighbors, PCAResidual
from quality import describe_versions
from scipy.ndimage import label
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score

from sklearn_anogan import AnoGANDetector, PatchDetector

#: Name of a set -> its file.
SETS = {
    "bottle": "mvtec_bottle_128",
    "kolektor": "kolektor_128",
    "bsdata": "bsdata_128",
    "tiles": "magnetic_tile_256",
    "tiles-random": "magnetic_tile_256",
    "tiles-64": "magnetic_tile_64",
    "tiles-256": "magnetic_tile_256",
}

#: Share of pixels marked by mistake up to which AUPRO integrates.
MOST_FALSE = 0.3

#: Side of a patch and distance to the next one, for the tiles of 256 pixels.
PATCH, STRIDE = 32, 16

#: Takes minutes, and sees what `AnoGANDetector` sees in images of 128 pixels.
ON_REQUEST = "PatchDetector(AnoGANDetector)"

COLUMNS = (
    "AUROC of pixels | average precision | AUPRO | AUROC of images | found | "
    "false alarms | fit [s] | map [ms/image] | score [ms/image]"
)


class Brightness:
    """How far a pixel is from the mean brightness of the training images."""

    def fit(self, X):
        self.mean = X.mean()
        return self

    def anomaly_map(self, X):
        difference = np.abs(X - self.mean)
        return difference.mean(axis=-1) if X.ndim == 4 else difference

    def score_samples(self, X):
        return -np.quantile(self.anomaly_map(X), 0.99, axis=(1, 2))


def main():
    args = parse_arguments()
    print(f"{describe_versions()}, {torch.get_num_threads()} threads", flush=True)
    if args.memory:
        measure_memory()
        return
    for name in args.sets:
        data = load(name, args.data, args.seed)
        print(f"\n| | {COLUMNS} |\n|---{'|---' * 9}|")
        for of_detector, detector in detectors(name, args.seed).items():
            if of_detector in args.detectors:
                cells = measure(detector, **data)
                print(f"| {of_detector} | {' | '.join(cells)} |", flush=True)


def load(name, folder, seed):
    """Images, masks and labels of a set, and which images to rank."""
    with np.load(Path(folder, f"{SETS[name]}.npz")) as file:
        data = {key: file[key] for key in file.files}
    X_train, X_test, masks = data["X_train"], data["X_test"], data["mask_test"] > 0
    y = data["y_test"] == 1
    if name in ("tiles", "tiles-random"):
        X_train, X_test = (halved(X).mean((2, 4)).round() for X in (X_train, X_test))
        X_train, X_test = X_train.astype(np.uint8), X_test.astype(np.uint8)
        masks = halved(masks).max((2, 4))
    if name == "tiles-random":  # a fifth of the normal tiles is held out
        normal = np.concatenate([X_train, X_test[~y]])
        normal = normal[np.random.RandomState(seed).permutation(len(normal))]
        n_test = len(normal) // 5
        X_train, X_test = normal[n_test:], np.concatenate([normal[:n_test], X_test[y]])
        masks = np.concatenate([np.zeros((n_test, *masks.shape[1:]), bool), masks[y]])
        y = np.arange(len(X_test)) >= n_test
    return {
        "X_train": X_train,
        "X_test": X_test,
        "masks": masks,
        "y": y,
        "ranked": data.get("matched_test", np.ones(len(y), bool)),
    }


def halved(X):
    """Images in blocks of 2x2 pixels: (n, height / 2, 2, width / 2, 2)."""
    n, height, width = X.shape
    return X.reshape(n, height // 2, 2, width // 2, 2)


def measure(detector, X_train, X_test, masks, y, ranked):
    """The cells of a row."""
    times = [time.perf_counter()]
    detector.fit(X_train)
    times.append(time.perf_counter())
    maps = np.asarray(detector.anomaly_map(X_test), dtype=np.float32)
    times.append(time.perf_counter())
    scores = detector.score_samples(X_test)
    times.append(time.perf_counter())
    fit, *seconds = np.diff(times)
    of_pixels = masks.ravel(), maps.ravel()
    figures = [
        roc_auc_score(*of_pixels),
        average_precision_score(*of_pixels),
        aupro(masks, maps),
        roc_auc_score(y[ranked], -scores[ranked]),
    ]
    found = ["", ""]
    if hasattr(detector, "offset_"):
        is_marked = scores < detector.offset_
        found = [f"{is_marked[y].mean():.2f}", f"{is_marked[~y].mean():.2f}"]
    return [
        *(f"{figure:.3f}" for figure in figures),
        *found,
        f"{fit:.0f}",
        *(f"{1000 * each / len(X_test):.1f}" for each in seconds),
    ]


def detectors(name, seed):
    """Name -> detector, for a set."""
    ours, forest = AnoGANDetector(random_state=seed), IsolationForest(random_state=seed)
    patches = {"patch_shape": 8, "random_state": seed}
    if name == "tiles-256":
        patches = {"patch_shape": PATCH, "stride": STRIDE, "random_state": seed}
    return {
        "AnoGANDetector": ours,
        ON_REQUEST: PatchDetector(ours, 64, random_state=seed),
        "PatchDetector(IsolationForest)": PatchDetector(forest, **patches),
        "Gaussian of filters by place": FilterGaussian(),
        "nearest neighbours of filters": FilterNeighbors(),
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
    print("\n| image | score [s] | MB for the score | map [MB] | MB for the map |")
    print("|---|---|---|---|---|")
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
                f"| {side}x{side} | {scored - begun:.1f} | {after_scores - before:.0f} "
                f"| {n_map:.0f} | {peak_memory() - after_scores:.0f} |",
                flush=True,
            )


def peak_memory():
    """Of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = list(detectors("tiles", 0))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--data", help="folder with the .npz files")
    usual = [name for name in names if name != ON_REQUEST]
    parser.add_argument("--detectors", nargs="+", choices=names, default=usual)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args()
    if args.data is None and not args.memory:
        parser.error("--data is needed")
    return args


if __name__ == "__main__":
    main()
