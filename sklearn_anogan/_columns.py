# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Far values in the columns of rows: which values set the scale of a column.

Two kinds of values make a column look constant. Few far values, such as a 1e6 among
values around 0, are errors or anomalies. A far value that many rows have, such as
-9999, stands for something else, mostly for a number that is missing.

Values that are merely rare look similar: in long tails, the largest value is often many
times as large as the next one. So distances from the median are compared. If these fall
off as a power, the logarithm of the ratio of the two largest is exponential, with the
mean that the other distances have (B. M. Hill, "A simple general approach to inference
about the tail of a distribution", 1975, :doi:`10.1214/aos/1176343247`). A jump counts
if it is large in itself, and many times as large as this mean.
"""

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np
import torch

from ._warnings import warn_user

#: Values of all columns together that are looked at more closely. Columns that a
#: warning describes.
_N_LOOKED_AT, _N_DESCRIBED = 2**22, 3

#: Values that differ by this share are the same: one type holds fewer digits.
_SAME = 1e-6

#: Share of the rows that far values may have: few values, which may be two in any case,
#: and values that stand for something else. Of these, so many at most.
_FEWEST, _FEW, _MANY, _MOST_REPEATED = 2, 0.02, 0.25, 3

#: Rows, and share of the rows, that a value has at least to stand for something else.
_REPEATED, _REPEATED_SHARE = 3, 3e-3


@dataclass(frozen=True)
class Jump:
    """How many times as far as all others, and as the tail lets expect, far values are.

    ``ratio`` is that of two distances, and ``surprise`` its logarithm relative to the
    mean.
    """

    ratio: float
    surprise: float


#: What is asked of any far values, of repeated ones, and of 0, which is a usual value.
_OF_ANY, _OF_REPEATED, _OF_ZERO = Jump(10, 10), Jump(3.5, 4), Jump(10, 4)

#: Share of the distances that are the tail. To their logarithms, so many ones are
#: added: the mean of a long tail.
_TAIL, _N_ADDED = 0.1, 2

#: Ratio of distances from the median of all values that is looked at more closely.
_LEAST_RATIO = 2


@dataclass(frozen=True)
class FarValues:
    """The far values of a column.

    Attributes
    ----------
    low, high : float
        Ends of all other values.
    median : float
    repeated : tuple of float
        Values that many rows have.
    has_few : bool
        Whether there are others.
    """

    low: float
    high: float
    median: float
    repeated: tuple
    has_few: bool


def find_far_values(column):
    """The `FarValues` of a column, or None.

    Parameters
    ----------
    column : tensor of shape (n,), float64
        Numbers that are not so large that differences overflow.
    """
    values, counts = column.unique(return_counts=True)
    n, middle = len(column), _median(values, counts)
    order = (values - middle).abs().argsort(descending=True)
    values, counts = values[order], counts[order]
    distances = (values - middle).abs()
    least = max(_REPEATED, int(_REPEATED_SHARE * n) + 1)
    found, n_few, repeated = None, 0, []
    for i in range(len(values) - 2):
        if counts[i] >= least:
            repeated.append(i)
        else:
            n_few += int(counts[i])
        if (
            n_few > max(_FEWEST, _FEW * n)
            or counts[repeated].sum() > _MANY * n
            or len(repeated) > _MOST_REPEATED
        ):
            break
        if distances[i] < _LEAST_RATIO * distances[i + 1]:
            continue
        wanted = _OF_ANY if n_few else _OF_REPEATED
        if not n_few and 0 in values[repeated]:
            wanted = _OF_ZERO
        others, of_each = values[i + 1 :], counts[i + 1 :]
        median = _median(others, of_each)
        ratio = (values[: i + 1] - median).abs().min() / (others - median).abs().max()
        if wanted.ratio <= ratio < inf:  # all others may be the same
            mean = _mean_of_tail((others - median).abs(), of_each)
            if ratio.log() >= wanted.surprise * mean:
                special = tuple(values[repeated].tolist())
                ends = others.min().item(), others.max().item()
                found = FarValues(*ends, median.item(), special, n_few > 0)
    return found


def _median(values, counts):
    """The lower median of values that occur so many times."""
    values, order = values.sort()
    counted = counts[order].cumsum(0)
    return values[(2 * counted < counted[-1]).sum()]


def _mean_of_tail(distances, counts):
    """The mean of the logarithms of distances, relative to where their tail begins.

    Distances (n,), and how often each occurs.
    """
    distances, order = distances.sort(descending=True)
    is_positive = distances > 0
    distances, counts = distances[is_positive], counts[order][is_positive]
    n_tail = max(1, int(_TAIL * counts.sum()))
    inside = counts.cumsum(0) - counts < n_tail
    logs = (distances[inside] / distances[inside][-1]).log()
    total = (logs * counts[inside]).sum() / counts[inside].sum()
    n = int(inside.sum())
    return (n * total + _N_ADDED) / (n + _N_ADDED)


class Far(NamedTuple):
    """A far value of a column of all rows."""

    column: int
    value: float
    row: int  # the first one
    n_rows: int
    low: float  # of all other values
    high: float
    median: float
    is_repeated: bool  # whether the value stands for something else


def measure_columns(images):
    """The ends (low, high) of each column without far values, and the `Far` values.

    All rows are read once, and once more if values are far.
    """
    ends, columns = _look_through(images)
    found = {i: far for i, c in enumerate(columns) if (far := find_far_values(c))}
    return _without_far_values(images, ends, found) if found else (ends, [])


def _look_through(images):
    """The ends of all columns, and of each some values (n,), the ends among them."""
    n_columns, n = images.layout.chw[0], len(images)
    n_drawn = min(n, max(2, _N_LOOKED_AT // n_columns))
    drawn = np.linspace(0, n - 1, n_drawn).round().astype(int)
    ends = torch.tensor([[inf], [-inf]], dtype=torch.float64).repeat(1, n_columns)
    sample = torch.empty(n_columns, n_drawn + 2, dtype=torch.float64)
    start = n_found = 0
    for block in images.blocks():
        values = block.flatten(1).cpu()
        ends = torch.stack(
            [ends[0].minimum(values.amin(0)), ends[1].maximum(values.amax(0))]
        )
        rows = drawn[(drawn >= start) & (drawn < start + len(values))] - start
        sample[:, n_found : n_found + len(rows)] = values[rows].T
        start, n_found = start + len(values), n_found + len(rows)
    sample[:, -2:] = ends.T
    return ends.T.tolist(), sample if n_drawn < n else sample[:, :n]


def _without_far_values(images, ends, found):
    """`measure_columns`, with the `FarValues` of some columns by number.

    Only some rows may have been looked at: others may lie a little beyond these.
    """
    ends, places = [*ends], {}
    for i, far in found.items():
        ends[i] = far.low, far.high
    start = 0
    for block in images.blocks():
        rows = block.flatten(1).cpu()
        for i, far in found.items():
            values, width = rows[:, i], far.high - far.low
            is_far = (values < far.low - width) | (values > far.high + width)
            special = [(value, is_same(values, value)) for value in far.repeated]
            for _, is_it in special:
                is_far &= ~is_it
            is_usual = ~torch.stack([is_far, *(is_it for _, is_it in special)]).any(0)
            some = torch.cat([values[is_usual], values.new_tensor(ends[i])])
            ends[i] = some.min().item(), some.max().item()
            few = [(value, values == value) for value in values[is_far].unique()]
            for value, is_it in [*special, *few]:
                if is_it.any():
                    first = start + int(is_it.nonzero()[0])
                    first, n = places.get((i, float(value)), (first, 0))
                    places[i, float(value)] = first, n + int(is_it.sum())
        start += len(rows)
    return ends, [
        Far(i, value, *place, *ends[i], found[i].median, value in found[i].repeated)
        for (i, value), place in places.items()
    ]


def tell_of_far_values(far, n, names, largest):
    """Warn of `Far` values: of those of many rows, and of the rest.

    Parameters
    ----------
    far : list of Far
    n : int
        Number of rows.
    names : sequence of str or None
        Of the columns.
    largest : float
        Widths of a column that a value of few rows may be far away at most.
    """
    repeated = [each for each in far if each.is_repeated]
    few = [each for each in far if not each.is_repeated]
    for each in few:
        if abs(each.value) / largest > each.high - each.low:
            raise ValueError(
                f"X has {_described(each, n, names)}. float32 cannot hold both. "
                "Replace such values, or leave the rows out."
            )
    if repeated:
        value = f"{repeated[0].value:.9g}"
        warn_user(
            "X has values far from all others of their column, in many rows: "
            f"{_listed(repeated, n, names)}. They are taken for missing: fit and "
            "scores read them as the median of the column. If they are, replace them, "
            f"for example by SimpleImputer(missing_values={value}, strategy='median'), "
            "and this warning is gone. If they are not, transform the column."
        )
    if few:
        warn_user(
            "X has few values far from all others of their column: "
            f"{_listed(few, n, names)}. The value range is learned without them: fit "
            "clips them, scores do not. If they are errors, replace them or leave the "
            "rows out. If they are usual, transform the column, for example by "
            "np.log1p."
        )


def _listed(far, n, names):
    told = [_described(each, n, names) for each in far[:_N_DESCRIBED]]
    if len(far) > _N_DESCRIBED:
        told.append(f"and {len(far) - _N_DESCRIBED} more")
    return "; ".join(told)


def _described(far, n, names):
    column = far.column if names is None else repr(str(names[far.column]))
    where = f"row {far.row}" if far.n_rows == 1 else f"{far.n_rows} of {n} rows"
    return (
        f"{far.value:.9g} in {where} of column {column}, whose other values lie "
        f"between {far.low:.6g} and {far.high:.6g}"
    )


def is_same(values, value):
    """Which of the values are this value, in any type of floating-point numbers."""
    return (values - value).abs() <= _SAME * abs(value)
