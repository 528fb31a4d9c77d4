"""
=============================
Watching the latent search
=============================

AnoGAN compares an image with the nearest one that its generator can draw. It finds that
by gradient descent on the latent code, with the generator frozen. Here we watch it, for
an image that is normal and for one that is not.
"""

# %%
# Train on normal images
# ----------------------

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from sklearn_anogan import AnoGANDetector
from sklearn_anogan.inspection import LatentSearchDisplay

digits = load_digits()
threes = digits.images[digits.target == 3]
detector = AnoGANDetector(
    n_filters=16, self_supervision=0, max_epochs=600, random_state=0
).fit(threes[:90])

# %%
# Search a normal image and an anomaly
# ------------------------------------
# The search starts from the nearest of 4096 generated images, which is what it shows
# after no step.

displays = {
    "unseen 3": LatentSearchDisplay.from_estimator(detector, threes[100]),
    "a 7": LatentSearchDisplay.from_estimator(
        detector, digits.images[digits.target == 7][0]
    ),
}
for name, display in displays.items():
    display.figure_.suptitle(name)
displays["a 7"].figure_.savefig("latent_search.png", dpi=120)
print("saved latent_search.png\n")

# %%
# Both losses fall
# ----------------
# A longer search comes closer to the anomaly too, although it has learned nothing but
# 3s: what tells the two apart shrinks.

fig, ax = plt.subplots(layout="constrained")
for name, display in displays.items():
    ax.plot(display.steps, display.losses, "o-", label=name)
ax.set(xlabel="gradient steps", ylabel="residual", ylim=(0, None))
ax.legend()

normal, anomalous = (display.losses for display in displays.values())
print("steps  unseen 3    a 7")
for step, a, b in zip(displays["a 7"].steps, normal, anomalous, strict=True):
    print(f"{step:5}     {a:.3f}  {b:.3f}")

# %%
# The residual of the anomaly stays above that of the normal image, and a few steps are
# enough to see it.
