"""Everything that README.md here shows, measured one command after the other.

Two commands run at a time, with one thread each. What a command prints goes to
``results/NAME.md``, and the rows of ``quality.py`` to ``results/*.csv``. A command is
not run again if its file is there, so that a run that was interrupted goes on; rows of
an unfinished ``quality.py`` are kept as well. At the end, ``tables.py`` writes the
tables.

    python benchmarks/run_all.py --data DIR --list      # what is missing, and minutes
    python benchmarks/run_all.py --data DIR             # measure what is missing
    python benchmarks/run_all.py --data DIR --again sizes shift
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results"

SCIKIT = "--detectors AnoGANDetector IsolationForest LocalOutlierFactor"


@dataclass(frozen=True)
class Job:
    """Commands whose output makes one file of results."""

    name: str
    #: Minutes that the commands took, one thread each beside another command.
    minutes: float
    commands: tuple
    #: Files of rows that the commands go on with.
    csv: tuple = ()
    #: Whether nothing else may run meanwhile.
    is_alone: bool = False


#: Simple detectors of images and of tables.
SIMPLE = f"{SCIKIT} OneClassSVM 'PCA residual' 'nearest neighbours' GaussianMixture"
ON_IMAGES = SIMPLE + ' "PyOD\'s AnoGAN"'
ON_TABLES = " ".join(
    [SIMPLE, *(f'"PyOD\'s {name}"' for name in ("KNN", "LOF", "ECOD", "HBOS"))]
)


def quality(dataset, options=ON_IMAGES, minutes=10):
    csv = f"{dataset}.csv"
    command = f"quality.py --dataset {dataset} --csv {{results}}/{csv} {options}"
    return Job(dataset, minutes, (command,), (csv,))


def changed(name, minutes, option, values):
    """Two classes with training images changed in several ways."""
    csv = f"{name}.csv"
    commands = tuple(
        f"quality.py --dataset {dataset} --tasks 4 {option} {value} {SCIKIT} "
        f"--csv {{results}}/{csv}"
        for value in values
        for dataset in ("mnist", "fashion_mnist")
    )
    return Job(name, minutes, commands, (csv,))


def single(name, minutes, command, **options):
    return Job(name, minutes, (command,), **options)


FEW = "--n-train 200 --seeds 0 1 2"

JOBS = [
    quality("mnist", minutes=35),
    quality("fashion_mnist", minutes=35),
    quality("digits", f"--seeds 0 1 2 {ON_IMAGES}", minutes=8),
    quality("magnetic_tile_64", minutes=4),
    Job(
        "adbench",
        12,
        (
            "quality.py --dataset adbench --csv {results}/adbench.csv",
            # PyOD's AnoGAN takes minutes, and so has the first split only.
            "quality.py --dataset adbench --csv {results}/adbench.csv --seeds 1 2 3 4 "
            f"{ON_TABLES}",
        ),
        ("adbench.csv",),
    ),
    changed("sizes", 18, "--n-train", (50, 100, 200, 500, 1000, 2000)),
    changed("contamination", 9, "--contaminate", (0.01, 0.05, 0.1)),
    single("false_alarms", 16, "false_alarms.py"),
    single(
        "thresholds_digits_20",
        4,
        "thresholds.py --dataset digits --seeds 0 1 2 --n-train 20",
    ),
    single("thresholds_digits", 4, "thresholds.py --dataset digits --seeds 0 1 2"),
    single(
        "thresholds_mnist",
        18,
        "thresholds.py --dataset mnist --n-train 100 --n-test 1000",
    ),
    single(
        "thresholds_fashion_mnist",
        18,
        "thresholds.py --dataset fashion_mnist --n-train 100 --n-test 1000",
    ),
    single("shift", 3, "shift.py"),
    *(
        single(f"localization_{name}", minutes, f"localization.py --sets {name}")
        for name, minutes in {
            "bottle": 4,
            "kolektor": 4,
            "bsdata": 5,
            "tiles": 8,
            "tiles-random": 8,
        }.items()
    ),
    single("picture", 2, "picture.py --figure {here}/../docs/images/parts.png"),
    single("localization_memory", 2, "localization.py --memory"),
    single("training_mnist", 2, "training.py --dataset mnist"),
    single("training_fashion_mnist", 2, "training.py --dataset fashion_mnist"),
    single("training_mnist_200", 4, f"training.py --dataset mnist --classes 2 {FEW}"),
    single(
        "training_fashion_mnist_200",
        4,
        f"training.py --dataset fashion_mnist --classes 0 {FEW}",
    ),
    single("training_digits", 1, "training.py --dataset digits"),
    single("training_time", 6, "training_time.py"),
    single("overhead", 3, "overhead.py"),
    single(
        "latency_mnist",
        5,
        "latency.py --dataset mnist --normal 8 --n-images 100 --figure {here}/loss.png",
    ),
    single(
        "latency_fashion_mnist",
        5,
        "latency.py --dataset fashion_mnist --normal 0 --n-images 100",
    ),
    single(
        "latency_tiles",
        6,
        "latency.py --dataset magnetic_tile_64 --n-images 40 --n-timed 256",
    ),
    single("scaling", 10, "scaling.py --figure {here}/scaling.png"),
    single("scaling_sources", 3, "scaling.py --sources --n-images 10000"),
    single("scaling_workers", 2, "scaling.py --workers --n-images 4000", is_alone=True),
]

#: Scripts that read DIR, and those that can share trained networks.
WITH_DATA = (
    "picture",
    "quality",
    "thresholds",
    "shift",
    "localization",
    "training",
    "latency",
)
WITH_MEMORY = ("quality", "training", "latency")


def main():
    args = parse_arguments()
    for job in JOBS:
        if job.name in args.again:
            for file in (f"{job.name}.md", *job.csv):
                (RESULTS / file).unlink(missing_ok=True)
    missing = [job for job in JOBS if not (RESULTS / f"{job.name}.md").exists()]
    for job in missing:
        print(f"{job.minutes:4.0f} min  {job.name}")
    alone = [job for job in missing if job.is_alone]
    pairs = [job for job in missing if not job.is_alone]
    minutes = sum(job.minutes for job in pairs) / 2
    minutes += sum(job.minutes for job in alone)
    print(f"About {minutes:.0f} minutes for {len(missing)} of {len(JOBS)} commands.")
    if args.list:
        return
    memory = args.memory or tempfile.mkdtemp()
    failed = []
    for jobs, n_workers in ((pairs, 2), (alone, 1)):
        with ThreadPoolExecutor(n_workers) as pool:
            # Networks that are trained for one command serve later ones.
            for job, is_done in pool.map(lambda j: run(j, args.data, memory), jobs):
                failed += [] if is_done else [job.name]
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}. Their output ends in .part.")
    subprocess.run([sys.executable, FOLDER / "tables.py"], check=True)


def run(job, data, memory):
    """The job, and whether all its commands succeeded."""
    begun = time.perf_counter()
    environment = os.environ | {
        "OMP_NUM_THREADS": "2" if job.is_alone else "1",
        "MPLBACKEND": "Agg",
        "PYTHONPATH": os.pathsep.join(
            [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    }
    part = RESULTS / f"{job.name}.part"
    with open(part, "w", encoding="utf-8") as file:
        for command in job.commands:
            script, *options = shlex.split(command)
            options = [each.format(results=RESULTS, here=FOLDER) for each in options]
            words = [sys.executable, str(FOLDER / script), *options]
            name = script.removesuffix(".py")
            if name in WITH_DATA and "--memory" not in options:
                words += ["--data", data]
            if name in WITH_MEMORY:
                words += ["--memory", memory]
            done = subprocess.run(words, stdout=file, env=environment, check=False)
            if done.returncode:
                return job, False
    part.rename(RESULTS / f"{job.name}.md")
    minutes = (time.perf_counter() - begun) / 60
    print(f"{job.name}: {minutes:.1f} minutes", flush=True)
    return job, True


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [job.name for job in JOBS]
    parser.add_argument("--data", required=True, help="folder with the .npz files")
    parser.add_argument("--memory", help="folder that keeps trained networks")
    parser.add_argument("--list", action="store_true", help="only tell what is missing")
    parser.add_argument(
        "--again", nargs="+", choices=names, default=[], metavar="NAME", help="anew"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
