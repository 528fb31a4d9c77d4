"""The picture of real parts in the README: bottles from above, and maps of defects.

    python benchmarks/picture.py --data DIR --figure docs/images/parts.png

The middle two test images of each kind of defect, and the first two normal ones. The
images are those of MVTec AD (Bergmann et al. 2019), CC BY-NC-SA 4.0; so is the picture.
"""

import argparse
from pathlib import Path

import numpy as np

from sklearn_anogan import AnoGANDetector
from sklearn_anogan.inspection import AnomalyMapDisplay


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="folder of mvtec_bottle_128.npz")
    parser.add_argument("--figure", required=True, help="file of the picture")
    args = parser.parse_args()
    with np.load(Path(args.data, "mvtec_bottle_128.npz")) as file:
        X_train, X_test = file["X_train"], file["X_test"]
        masks, y, kinds = file["mask_test"], file["y_test"], file["type_test"]
    shown = [
        number
        for kind in np.unique(kinds[y == 1])
        for number in middle_two(np.flatnonzero(kinds == kind))
    ]
    shown += [*np.flatnonzero(y == 0)[:2]]
    detector = AnoGANDetector(random_state=0).fit(X_train)
    display = AnomalyMapDisplay.from_predictions(
        X_test[shown],
        detector.anomaly_map(X_test[shown]),
        masks=masks[shown],
        vmax=6 * detector.map_threshold(),
        colorbar=False,
    )
    display.figure_.savefig(args.figure, dpi=110)
    print(f"saved {args.figure}")


def middle_two(numbers):
    return numbers[len(numbers) // 2 - 1 :][:2]


if __name__ == "__main__":
    main()
