"""Growth of the search's time and memory with the number of images.

Every number of images is scored in a process of its own, from a memory map of 28x28
pixels, with the default parameters; the memory is the most that the process takes for
itself, looked at twenty times a second, beyond what it had before it scored. Pages of
the memory map are the input's and do not count.

    python benchmarks/scaling.py --figure scaling.png
    python benchmarks/scaling.py --workers
    python benchmarks/scaling.py --sources --n-images 100000

The last one fits as well, and reads the images from a memory map, an HDF5 file and a
zarr folder in turn. The networks are narrow and searches take no steps, since only
reading differs. The images are random, so that warnings of collapse are true.
"""

import argparse
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path

import h5py
import joblib
import numpy as np
import psutil
import torch
import zarr
from quality import describe_versions

from sklearn_anogan import AnoGANDetector

SHAPE = (28, 28)


def main():
    args = parse_arguments()
    print(describe_versions())
    print(f"{torch.get_num_threads()} threads\n")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        X = np.lib.format.open_memmap(
            folder / "X.npy", "w+", np.uint8, (max(args.n_images), *SHAPE)
        )
        rng = np.random.RandomState(0)
        for block in np.array_split(X, max(1, len(X) // 10_000)):
            block[:] = rng.randint(256, size=block.shape)
        X.flush()
        # What the networks have learned changes neither time nor memory.
        detector = AnoGANDetector(max_epochs=1, random_state=0).fit(X[:256])
        joblib.dump(detector, folder / "detector.joblib")
        if args.workers:
            compare_workers(folder, max(args.n_images))
        elif args.sources:
            compare_sources(folder, X)
        else:
            compare_sizes(folder, args.n_images, args.figure)


def compare_sizes(folder, sizes, figure):
    print("| images | seconds | ms for an image | MiB beside the input |")
    print("|---|---|---|---|")
    results = []
    for n in sizes:
        seconds, memory = in_new_process(score, folder, n, {})
        results.append((n, seconds, memory))
        print(f"| {n} | {seconds:.2f} | {1000 * seconds / n:.2f} | {memory:.0f} |")
    if figure:
        draw(figure, *np.transpose(results))


def compare_workers(folder, n):
    print(f"{n} images\n")
    print("| workers | seconds |")
    print("|---|---|")
    for name, settings in {
        "n_jobs=None": {},
        "n_jobs=2, threads": {"n_jobs": 2, "backend": "threading"},
        "n_jobs=2, processes": {"n_jobs": 2, "backend": "loky"},
    }.items():
        seconds, _ = in_new_process(score, folder, n, settings)
        print(f"| {name} | {seconds:.2f} |")


def compare_sources(folder, X):
    with h5py.File(folder / "X.h5", "w") as file:
        chunks = (64, *SHAPE)
        file.create_dataset("X", data=X, chunks=chunks)
    zarr.create_array(str(folder / "X.zarr"), data=X[:], chunks=chunks)
    print(f"{len(X)} images\n")
    print("| source | fit: seconds | MiB | score: seconds | MiB |")
    print("|---|---|---|---|---|")
    for name in SOURCES:
        results = in_new_process(fit_and_score, folder, name)
        cells = [f"{seconds:.0f} | {memory:.0f}" for seconds, memory in results]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


SOURCES = {
    "HDF5": lambda folder: h5py.File(folder / "X.h5")["X"],
    "zarr": lambda folder: zarr.open_array(str(folder / "X.zarr"), mode="r"),
    "memory map": lambda folder: np.load(folder / "X.npy", mmap_mode="r"),
}


def fit_and_score(folder, source):
    """Seconds and MiB that a default fit takes, and then scoring."""
    X = SOURCES[source](folder)
    AnoGANDetector(max_epochs=1, random_state=0).fit(X[:256])  # loads libraries
    detector = AnoGANDetector(
        n_filters=1, self_supervision=0, search_steps=0, random_state=0
    )
    return measured(lambda: detector.fit(X)), measured(
        lambda: detector.score_samples(X)
    )


def score(folder, n, settings):
    """Seconds and MiB that scoring takes."""
    detector = joblib.load(folder / "detector.joblib")
    X = np.load(folder / "X.npy", mmap_mode="r")[:n]
    with joblib.parallel_config(**settings):
        detector.score_samples(X[:1])  # explores; loads libraries, starts workers
        return measured(lambda: detector.score_samples(X))


def measured(function):
    """Seconds and MiB that a call takes."""
    before = peak = own_memory()
    has_ended = threading.Event()

    def look():
        nonlocal peak
        while not has_ended.wait(0.05):
            peak = max(peak, own_memory())

    looking = threading.Thread(target=look)
    looking.start()
    start = time.perf_counter()
    function()
    seconds = time.perf_counter() - start
    has_ended.set()
    looking.join()
    return seconds, peak - before


def own_memory():
    """MiB of this process that are not mapped from files."""
    memory = psutil.Process().memory_info()
    return (memory.rss - memory.shared) / 2**20


def in_new_process(function, *args):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def draw(path, n, seconds, memory):
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
    axes[0].loglog(n, seconds, "o-")
    axes[0].set(xlabel="images", ylabel="seconds")
    axes[1].semilogx(n, memory, "o-")
    axes[1].set(xlabel="images", ylabel="MiB beside the input", ylim=(0, None))
    plt.savefig(path, dpi=150)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--n-images", type=int, nargs="+", default=[100, 1000, 10_000, 30_000]
    )
    parser.add_argument(
        "--workers", action="store_true", help="compare workers instead"
    )
    parser.add_argument(
        "--sources", action="store_true", help="compare files that hold the images"
    )
    parser.add_argument("--figure", help="file for a figure of the growth")
    return parser.parse_args()


if __name__ == "__main__":
    main()
