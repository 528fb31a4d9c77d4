import numpy as np
import pandas as pd
import pytest
import torch

from sklearn_anogan._holding_out import (
    MOST_HELD_OUT,
    check_groups,
    hold_out,
    n_held_out,
    n_needed,
)


@pytest.mark.parametrize(
    "n, n_held",
    [
        (2, 2),
        (7, 7),
        (8, 4),
        (37, 18),
        (38, 19),
        (86, 19),
        (87, 39),
        (300, 59),
        (400, 99),
        (1000, 99),
        (6000, 599),
        (20000, 999),
    ],
)
def test_images_are_held_out(n, n_held):
    training, held_out = hold_out(n)
    assert len(held_out) == n_held
    assert len(training) == (n if n < 8 else n - n_held)
    assert set(training) | set(held_out) == set(range(n))
    assert (np.diff(training) > 0).all()
    assert (np.diff(held_out) > 0).all()


def test_p_values_can_be_a_twentieth_exactly():
    for n in range(38, 30_000, 7):
        assert (n_held_out(n) + 1) % 20 == 0
        assert n_held_out(n) <= min(n / 2, MOST_HELD_OUT)
    assert n_held_out(n_needed(99)) == 99
    assert n_held_out(n_needed(99) - 1) < 99


def test_no_group_is_on_both_sides(rng):
    for n_groups in (2, 3, 10, 38, 60, 500):
        groups = rng.permutation(np.r_[:n_groups, rng.randint(n_groups, size=900)])
        training, held_out = hold_out(len(groups), groups)
        assert not {*groups[training]} & {*groups[held_out]}
        assert len({*groups[held_out]}) == n_held_out(n_groups)
        assert len(training) + len(held_out) == len(groups)
        again = hold_out(len(groups), groups)
        np.testing.assert_array_equal(again[0], training)


def test_images_on_their_own_are_groups_of_one():
    for own, expected in zip(hold_out(300, np.arange(300)), hold_out(300), strict=True):
        np.testing.assert_array_equal(own, expected)


def test_groups_of_almost_one_size(rng):
    """Half of the groups are held out, even if these have most of the images."""
    for _ in range(100):
        groups = np.repeat(np.arange(38), rng.randint(3, 6, size=38))
        _, held_out = hold_out(len(groups), groups)
        assert len({*groups[held_out]}) == 19


def test_a_group_of_most_images_trains():
    for n_others in (1, 5, 60):
        for largest in range(n_others + 1):  # whatever its number
            sizes = np.where(np.arange(n_others + 1) == largest, 500, 1)
            groups = np.repeat(np.arange(n_others + 1), sizes)
            training, held_out = hold_out(len(groups), groups)
            assert {*np.flatnonzero(groups == largest)} <= {*training}
            assert len(held_out) == n_held_out(n_others + 1)


def test_large_groups_are_thinned_out():
    groups = np.repeat(np.arange(100), 200)
    training, held_out = hold_out(len(groups), groups)
    n_groups = n_held_out(100)
    assert len(training) == (100 - n_groups) * 200
    counts = np.bincount(groups[held_out])
    assert {*counts} == {0, MOST_HELD_OUT // n_groups}
    assert len({*(held_out % 200)}) > 100  # not the first of each


def test_labels_of_groups():
    """In the order of the images: other names make no other split."""
    for labels in (
        ["b", "a", "b"],
        [[3], [1], [3]],
        np.array([2.5, 0, 2.5]),
        (True, False, True),
        torch.tensor([7, 9, 7]),
        torch.tensor([7.0, 9, 7], requires_grad=True),
        pd.Series(["x", "y", "x"], index=[5, 5, 1], dtype="category"),
        np.array(["2001", "1999", "2001"], dtype="datetime64[Y]"),
    ):
        groups = check_groups(labels, 3, least=2, name="fit")
        np.testing.assert_array_equal(groups, [0, 1, 0])
        assert groups.dtype == np.int64
    assert check_groups(None, 3, least=2, name="fit") is None
    np.testing.assert_array_equal(check_groups([7, 7], 2, least=1, name="f"), [0, 0])


@pytest.mark.parametrize(
    "labels, message",
    [
        ([1, 2], r"shape \(2,\), but X has 3 images. fit needs the label"),
        (np.zeros((3, 2)), r"shape \(3, 2\)"),
        (5, r"shape \(\)"),
        ([1.0, np.nan, 2.0], "missing labels"),
        (["a", float("nan"), "b"], "missing labels"),
        ([None, "a", "b"], "missing labels"),
        (pd.Series(["a", None, "b"], dtype="string"), "missing labels"),
        (np.array(["2001", "nat", "2002"], dtype="datetime64[Y]"), "missing labels"),
        ([1, "1", 2], "cannot be compared"),
        (["a", "a", "a"], "All images are of the group a, but fit needs at least 2"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(ValueError, match=message):
        check_groups(labels, 3, least=2, name="fit")
