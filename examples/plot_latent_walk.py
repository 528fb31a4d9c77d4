"""
=======================================
Has the generator learned or memorised?
=======================================

A generator may have learned what normal images have in common, or may have memorised
the training images. Two checks tell. The images between two latent codes should change
smoothly. And generated images should be as far from the training images as new images.
"""

# %%
# Train on one half of the images
# -------------------------------
# The other half is kept for the comparison.

from sklearn.datasets import load_digits

from sklearn_anogan import AnoGANDetector
from sklearn_anogan.inspection import LatentWalkDisplay, memorization_test

digits = load_digits()
images = digits.images[digits.target == 3]
images_train, images_unseen = images[::2], images[1::2]
detector = AnoGANDetector(
    n_filters=16, self_supervision=0, max_epochs=600, random_state=0
).fit(images_train)

# %%
# Walk through the latent space
# -----------------------------
# Each row leads from one random latent code to another in equal steps. A generator that
# has memorised images would jump from one image to the next.

display = LatentWalkDisplay.from_estimator(detector, random_state=0)
display.figure_.suptitle("Generated images between two latent codes, in each row")
display.figure_.savefig("latent_walk.png", dpi=120)
print("saved latent_walk.png")

# %%
# Are generated images copies?
# ----------------------------
# The test measures the distance to the nearest training image, for generated images and
# for unseen images. A statistic of 0.5 means that both are equally near; 1 means that
# generated images are copies.

result = memorization_test(detector, images_train, images_unseen, random_state=0)
print(f"\nstatistic {result.statistic:.2f}, p-value {result.pvalue:.2g}")
print(f"mean distance of generated images: {result.generated_distances.mean():.1f}")
print(f"mean distance of unseen images:    {result.unseen_distances.mean():.1f}")

# %%
# The digits change their shape step by step. Generated digits are about as far from the
# training images as new digits: this generator has learned what a 3 is.
