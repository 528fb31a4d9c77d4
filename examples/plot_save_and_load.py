"""
=========================================
Saving a detector, and loading it safely
=========================================

A pickle executes whatever its author put into it. `save` writes a detector to a
safetensors file, which holds only arrays and text. `load` checks the whole file and
executes nothing, so you can load detectors from other people.
"""

# %%
# Fit and save
# ------------

import tempfile
from pathlib import Path

import numpy as np
from safetensors import safe_open
from sklearn.datasets import load_digits

from sklearn_anogan import AnoGANDetector
from sklearn_anogan.inspection import AnomalyMapDisplay
from sklearn_anogan.persistence import load, save

digits = load_digits()
threes = digits.images[digits.target == 3]
detector = AnoGANDetector(n_filters=16, max_epochs=300, random_state=0).fit(
    threes[:150]
)

folder = tempfile.TemporaryDirectory()
path = Path(folder.name, "threes.safetensors")
save(detector, path)
print(f"{path.name}: {path.stat().st_size / 1024:.0f} kB")

# %%
# Any safetensors reader opens the file. Weights and calibration are arrays; parameters
# and versions are text.

with safe_open(path, "numpy") as file:
    names = list(file.keys())
print(f"{len(names)} arrays, such as {', '.join(sorted(names)[:3])}")

# %%
# Load
# ----
# On the same kind of machine, the scores are the same to the bit. Use ``device="cpu"``
# for detectors that were trained on a GPU.

loaded = load(path, device="cpu")
new = digits.images[:200]
is_same = np.array_equal(loaded.score_samples(new), detector.score_samples(new))
print(f"same scores after loading: {is_same}")

# %%
# A damaged file
# --------------
# ``load`` notices a single changed bit.

content = bytearray(path.read_bytes())
content[len(content) // 2] ^= 1
path.write_bytes(content)
try:
    load(path)
except ValueError as error:
    print(f"ValueError: {str(error).replace(str(path.parent), '...')}")
folder.cleanup()

# %%
# The loaded detector marks where other digits differ from a 3.

display = AnomalyMapDisplay.from_estimator(loaded, new[:7])
display.figure_.suptitle("Digits, and how they differ from a 3, by the loaded detector")
display.figure_.savefig("save_and_load.png", dpi=120)
print("saved save_and_load.png")

# %%
# A saved detector is one small file, and loading this file executes nothing from it.
