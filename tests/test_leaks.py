"""A process that scores for days keeps its memory.

Run as a program, ``python tests/test_leaks.py KIND`` prints for each method how many
bytes a call keeps.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from sklearn_anogan import AnoGANDetector, PatchDetector
from sklearn_anogan.inspection import report
from sklearn_anogan.persistence import load, save

#: Bytes that a call may keep.
MOST_KEPT = 4096

#: Calls in a round, and rounds; fewer of what takes longer, which is noisier.
MANY, FEW = (20, 3), (2, 5)

METHODS = (
    *("score_samples", "decision_function", "predict", "p_values"),
    *("anomaly_map", "residual_map", "reconstruct", "invert", "score_terms", "explain"),
)


def bytes_kept(call, n_calls, n_rounds):
    """Bytes by which the resident set grows with each call, in the quietest round.

    What leaks grows in each round, and the allocator's noise does not.
    """
    process, sizes = psutil.Process(), []
    for _ in range(n_rounds + 1):  # the first one warms up
        for _ in range(n_calls):
            call()
        gc.collect()
        sizes.append(process.memory_info().rss)
    return min(np.diff(sizes)) / n_calls


def calls_of(detector, X, folder):
    """Name -> function without arguments, for all that a fitted detector can do."""
    path = Path(folder, "detector.safetensors")
    save(detector, path)
    calls = {
        name: (partial(getattr(detector, name), X[:1]), MANY)
        for name in METHODS
        if hasattr(detector, name)
    }
    calls["map_threshold"] = detector.map_threshold, MANY
    calls["calibrate"] = partial(detector.calibrate, X), FEW
    calls["save"] = partial(save, detector, path), FEW
    calls["load"] = lambda: load(path).score_samples(X[:1]), FEW
    calls["report"] = partial(report, detector, X[:2], path.with_suffix(".html")), FEW
    if hasattr(detector, "sample"):
        z = detector.invert(X[:1])
        calls["sample"] = detector.sample, MANY
        calls["generate"] = partial(detector.generate, z), MANY
    calls["fit"] = partial(detector.fit, X), FEW
    return calls


def make(kind):
    """A detector of this kind, fitted, and its X."""
    rng = np.random.RandomState(0)
    quick = {"max_epochs": 1, "random_state": 0}
    if kind == "images":
        X, detector = rng.rand(40, 8, 8), AnoGANDetector(**quick)
    elif kind == "rows":
        X, detector = rng.rand(60, 5), AnoGANDetector(**quick)
    else:
        X = rng.rand(12, 24, 24)
        detector = PatchDetector(AnoGANDetector(**quick), 8, n_patches=99)
    return detector.fit(X), X


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["images", "rows", "patches"])
def test_no_call_keeps_memory(kind):
    done = subprocess.run(
        [sys.executable, __file__, kind],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    kept = json.loads(done.stdout)
    assert {"predict", "load", "fit"} <= {*kept}
    assert {name: n for name, n in kept.items() if n > MOST_KEPT} == {}


def main(kind):
    warnings.simplefilter("ignore")  # trained for a moment
    detector, X = make(kind)
    kept = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (call, times) in calls_of(detector, X, folder).items():
            kept[name] = bytes_kept(call, *times)
    print(json.dumps(kept))


if __name__ == "__main__":
    main(*sys.argv[1:])
