import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from sklearn_anogan import AnoGANDetector, PatchDetector, _columns
from sklearn_anogan._columns import find_far_values
from sklearn_anogan._holding_out import hold_out
from sklearn_anogan._images import check_images
from sklearn_anogan._value_range import ValueRange


@pytest.fixture
def rng():
    return np.random.RandomState(0)


def far(column):
    return find_far_values(torch.from_numpy(np.asarray(column, dtype=float)))


def with_share(column, value, share, rng):
    column = np.array(column, dtype=float)
    column[rng.permutation(len(column))[: max(1, round(share * len(column)))]] = value
    return column


def measure(X, names=None):
    images = check_images(
        X, None, n_features=None, min_samples=1, estimator_name="Detector"
    )
    return ValueRange.measure(images, names)


def ends(value_range):
    return torch.cat([value_range.low, value_range.high], 1)[:, :, 0].tolist()


# A single column

USUAL = {
    "normal": lambda rng, n: rng.normal(size=n),
    "whole numbers": lambda rng, n: rng.randint(0, 51, n),
    "codes": lambda rng, n: rng.randint(1, 6, n),
    "binary": lambda rng, n: rng.rand(n) < 0.5,
    "rare": lambda rng, n: rng.rand(n) < 0.05,
    "lognormal": lambda rng, n: rng.lognormal(size=n),
}


@pytest.mark.parametrize("kind", USUAL)
@pytest.mark.parametrize("n", [200, 2000])
@pytest.mark.parametrize("share", [0.05, 0.2])
@pytest.mark.parametrize("value", [-9999, 99999.5])
def test_a_far_value_of_many_rows(rng, kind, n, share, value):
    usual = np.asarray(USUAL[kind](rng, n), dtype=float)
    column = with_share(usual, value, share, rng)
    others = column[column != value]
    found = far(column)
    assert found.repeated == (value,)
    assert not found.has_few
    assert (found.low, found.high) == (others.min(), others.max())
    assert others.min() <= found.median <= others.max()


@pytest.mark.parametrize("value", [-88, -99, 999])
def test_missing_answers(rng, value):
    column = with_share(rng.randint(0, 51, 500), value, 0.05, rng)
    assert far(column).repeated == (value,)


@pytest.mark.parametrize("kind", ["normal", "whole numbers", "lognormal"])
@pytest.mark.parametrize("n", [40, 200, 2000])
@pytest.mark.parametrize("value", [1e6, -1e9])
def test_a_single_far_value(rng, kind, n, value):
    column = with_share(USUAL[kind](rng, n), value, 0, rng)
    found = far(column)
    assert found.has_few
    assert found.repeated == ()
    assert found.high < 1e3


def test_far_values_of_all_kinds(rng):
    column = rng.normal(size=400)
    column[:60] = -9999
    column[60:80] = 99999
    column[80:84] = [1e6, -3e5, 2e7, 1e5]
    found = far(column)
    assert {*found.repeated} == {-9999, 99999}
    assert found.has_few
    assert -5 < found.low < found.high < 5


def test_zero_is_a_usual_value(rng):
    """It takes more than for other values: a year 0 among years."""
    amounts = np.where(rng.rand(300) < 0.2, 0, rng.uniform(100, 140, 300))
    assert far(amounts) is None
    assert far(np.where(amounts == 0, -50, amounts)).repeated == (-50,)
    years = np.where(rng.rand(300) < 0.2, 0, rng.randint(1990, 2021, 300))
    assert far(years).repeated == (0,)


@pytest.mark.parametrize("n", [200, 1000, 5000])
@pytest.mark.parametrize(
    "make",
    [
        *USUAL.values(),
        lambda rng, n: rng.lognormal(sigma=2, size=n),
        lambda rng, n: rng.pareto(1, size=n),
        lambda rng, n: rng.standard_t(2, size=n),
        lambda rng, n: rng.poisson(0.2, size=n),
        lambda rng, n: rng.negative_binomial(0.2, 0.02, size=n),
        lambda rng, n: np.exp(rng.normal(2, 2, size=n)).astype(int),
        lambda rng, n: (rng.rand(n) < 0.3) * rng.lognormal(size=n),
        lambda rng, n: rng.rand(n) < 1 / 200,
        lambda rng, n: np.arange(n) == 7,
        lambda rng, n: np.where(np.arange(n) < n / 3, 5, 1000),
        lambda rng, n: np.where(rng.rand(n) < 0.2, 0, 20) + rng.normal(size=n),
        lambda rng, n: np.full(n, 3),
        lambda rng, n: with_share(rng.randint(0, 51, n), -1, 0.05, rng),
    ],
)
def test_clean_columns_are_silent(rng, make, n):
    for _ in range(20):
        assert far(make(rng, n)) is None


def test_more_than_few_are_usual(rng):
    column = rng.normal(size=200)
    column[:10] = rng.uniform(1e5, 1e6, size=10)
    assert far(column) is None
    column[:80] = -9999
    assert far(column) is None


# All columns of X


@pytest.mark.parametrize("make", [np.array, torch.tensor, np.asfortranarray])
def test_ranges_without_far_values(rng, make):
    """Other columns keep their ranges; a second reading finds each far value."""
    X = rng.uniform(size=(200, 4))
    X[:, 3] = rng.rand(200) < 0.05
    clean = X.copy()
    X[5:15, 0] = -9999
    X[7, 2] = 1e6
    others = np.delete(X[:, 0], range(5, 15))
    with (
        pytest.warns(UserWarning, match="-9999 in 10 of 200 rows of column 0, .* read"),
        pytest.warns(UserWarning, match="1000000 in row 7 of column 2, .* clips them"),
    ):
        value_range = measure(make(X))
    usual = others, clean[:, 1], np.delete(clean[:, 2], 7), clean[:, 3]
    assert ends(value_range) == [[c.min(), c.max()] for c in usual]
    assert value_range.special[:, :2].tolist() == [[0, -9999]]
    assert value_range.special[0, 2] == pytest.approx(np.median(others), abs=0.02)


def test_names_of_columns(rng):
    X = rng.normal(size=(200, 5))
    X[:20] = -9999
    with pytest.warns(UserWarning, match=r"column 'b', .*column 'c', .*; and 2 more\."):
        measure(X, list("abcde"))


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.float64])
def test_special_values_of_any_type(rng, dtype):
    """New rows may be of another type than those of fit."""
    value = -9999 if dtype == np.int16 else -99.99
    X = (rng.normal(size=(200, 2)) * 3).astype(dtype)
    X[::10, 1] = value
    with pytest.warns(UserWarning, match="in 20 of 200 rows of column 1"):
        value_range = measure(X)
    row = torch.tensor([0, value], dtype=torch.float64)[None, :, None, None]
    for each in (row, row.float().double()):
        assert value_range.to_network(each, "cpu").abs().max() <= 1
        assert value_range.clip(each)[0, 1] == value_range.special[0, 2]
    assert value_range.to_network(row - 20, "cpu").abs().max() > 1


def test_many_rows(rng, monkeypatch):
    """Not all are looked at closely, but all set the range and are counted."""
    monkeypatch.setattr(_columns, "_N_LOOKED_AT", 1000)
    X = rng.normal(size=(5000, 2))
    X[::20, 0] = -9999
    X[4321, 1] = 1e6
    with (
        pytest.warns(UserWarning, match="-9999 in 250 of 5000 rows of column 0"),
        pytest.warns(UserWarning, match="1000000 in row 4321 of column 1"),
    ):
        value_range = measure(X)
    others = X[X[:, 0] > -9999, 0], np.delete(X[:, 1], 4321)
    assert ends(value_range) == [[c.min(), c.max()] for c in others]


def test_a_value_that_leaves_float32_no_room(rng):
    X = rng.normal(size=(200, 2))
    X[3, 1] = 1e30
    with pytest.raises(ValueError, match=r"1e\+30 in row 3 of column 1.* float32"):
        measure(X)
    X[:20, 1] = 1e30  # read as the median
    with pytest.warns(UserWarning, match=r"1e\+30 in 20 of 200 rows of column 1"):
        assert ends(measure(X))[1][1] < 5


# Detectors


@pytest.fixture
def quick():
    return {"n_filters": 4, "max_epochs": 20, "n_candidates": 64, "random_state": 0}


training, held_out = hold_out(200)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "value, rows",
    [
        (-9999, slice(5, 10)),
        (1e6, [int(training[0])]),
        (1e6, [int(held_out[0])]),
        (-9999, held_out[:2]),
        (-9999, held_out[:5]),
        (-9999, training[:2]),
        (-9999, slice(0, 200, 5)),
    ],
)
def test_anomalies_are_found_beside_far_values(rng, quick, value, rows):
    X, anomalies = rng.normal(size=(200, 5)), rng.normal(size=(50, 5))
    X[rows, 2] = value
    anomalies[:, 2] += 8
    with pytest.warns(UserWarning, match="X has .*far from all others"):
        detector = AnoGANDetector(**quick).fit(X)
    assert (detector.predict(anomalies) == -1).mean() > 0.9
    assert (detector.predict(rng.normal(size=(200, 5))) == -1).mean() < 0.2
    # A value that many rows have is as usual in new rows, and others are not.
    X = rng.normal(size=(50, 5))
    X[:, 2] = value
    share = (detector.predict(X) == -1).mean()
    n_rows = len(np.arange(200)[rows])
    assert share < 0.3 if n_rows > 2 else share == 1
    maps = detector.anomaly_map(anomalies)
    assert (maps.argmax(1) == 2).mean() > 0.9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_names_of_a_frame(rng, quick):
    X = pd.DataFrame(rng.normal(size=(60, 3)), columns=["age", "height", "income"])
    X.loc[10:14, "income"] = -9999
    with pytest.warns(UserWarning, match="in 5 of 60 rows of column 'income'"):
        AnoGANDetector(**quick).fit(X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_contamination_counts_far_values(rng, quick):
    """The threshold is one of scores as `predict` compares them."""
    X = rng.normal(size=(100, 3))
    X[7, 1] = 1e6
    with pytest.warns(UserWarning, match="in row 7 of column 1"):
        detector = AnoGANDetector(**quick, contamination=0.1).fit(X)
    labels = detector.predict(X)
    assert labels[7] == -1
    assert (labels == -1).sum() == 10


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_rows_of_a_patch_detector(rng, quick):
    X = rng.normal(size=(100, 3))
    X[::5, 1] = -9999
    with pytest.warns(UserWarning, match="rows of column 1"):
        detector = PatchDetector(AnoGANDetector(**quick)).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert detector.predict(X).mean() > 0.5
