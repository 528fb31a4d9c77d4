import numpy as np
import pytest

from sklearn_anogan._shared import threshold


@pytest.mark.parametrize(
    "n, share", [(10, 1 / 11), (19, 0.05), (50, 0.05), (400, 0.05)]
)
def test_false_alarms_among_unseen_images(rng, n, share):
    """5 % in the mean, or as few as n scores can tell, however few they are."""
    # Of uniform scores, the threshold is the share of unseen ones below it.
    found = [threshold(rng.uniform(size=n), "auto") for _ in range(20_000)]
    assert abs(np.mean(found) - share) < 0.002


def test_share_of_the_images_themselves(rng):
    scores = rng.normal(size=1001)
    assert np.mean(scores < threshold(scores, 0.2)) == pytest.approx(0.2, abs=1e-3)
