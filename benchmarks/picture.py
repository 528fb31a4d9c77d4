"""The picture of real parts in the README: pitted ball screws, and maps of the pits.

    python benchmarks/picture.py --data DIR --figure docs/images/parts.png

Every ninth of the 54 pitted test images, and the first two normal ones. BSData by
T. Schlagenhauf, CC BY-SA 4.0, and so is the picture.
"""

import argparse

import numpy as np
from localization import load

from sklearn_anogan import AnoGANDetector
from sklearn_anogan.inspection import AnomalyMapDisplay


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="folder with bsdata_128.npz")
    parser.add_argument("--figure", required=True, help="file of the picture")
    args = parser.parse_args()
    data = load("bsdata", args.data, seed=0)
    detector = AnoGANDetector(random_state=0).fit(data["X_train"])
    pitted, normal = np.flatnonzero(data["y"]), np.flatnonzero(~data["y"])
    shown = np.r_[pitted[::9], normal[:2]]
    X = data["X_test"][shown]
    threshold = detector.map_threshold()
    display = AnomalyMapDisplay.from_predictions(
        X,
        detector.anomaly_map(X),
        masks=data["masks"][shown],
        vmax=4 * threshold,
        colorbar=False,
    )
    display.figure_.savefig(args.figure, dpi=110)
    print(f"saved {args.figure}")


if __name__ == "__main__":
    main()
