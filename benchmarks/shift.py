"""What `calibrate` does where light and dirt have drifted since the training.

Images of ball screw drives, split by the position of the spindle. Every other normal
test image calibrates the detector; the rest, and all pitted ones, are decided about
before and after.

    python benchmarks/shift.py --data DIR
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from quality import describe_versions
from sklearn.metrics import roc_auc_score

from sklearn_anogan import AnoGANDetector


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="folder with bsdata_128.npz")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # of the shift
    print(f"{describe_versions()}, {torch.get_num_threads()} threads", flush=True)
    with np.load(Path(args.data, "bsdata_128.npz")) as data:
        X_train, X, is_pitted = data["X_train"], data["X_test"], data["y_test"] == 1
    normal = np.flatnonzero(~is_pitted)
    kept = np.sort(np.r_[normal[1::2], np.flatnonzero(is_pitted)])
    detector = AnoGANDetector(random_state=args.seed).fit(X_train)
    print("| | AUROC | predict | p <= 0.05 | p <= 0.1 |\n|---|---|---|---|---|")
    describe("as fitted", detector, X[kept], is_pitted[kept])
    detector.calibrate(X[normal[::2]])
    title = f"calibrated by {len(normal[::2])} images (shift: p = "
    title += f"{detector.shift_p_value_:.0e})"
    describe(title, detector, X[kept], is_pitted[kept])


def describe(title, detector, X, is_pitted):
    auroc = roc_auc_score(is_pitted, -detector.score_samples(X))
    p = detector.p_values(X)
    marked = [detector.predict(X) == -1, p <= 0.05, p <= 0.1]
    cells = [f"{m[~is_pitted].mean():.2f} / {m[is_pitted].mean():.2f}" for m in marked]
    print(f"| {title} | {auroc:.3f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
