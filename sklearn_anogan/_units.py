# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Whether X has the units of fit: images from 0 to 255 where fit had 0 to 1.

All that is known is the value range of fit. Anomalies may lie outside the range, and
dark images in a small part of it, so that much is asked for. In larger units, most
values lie far away, and differ much more than in fit. In smaller units, all values lie
in a sliver, but have many levels, and reach the end of a usual scale.
"""

from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch

from ._value_range import ValueRange
from ._warnings import warn_user

#: Images, and rows, that are looked at at most.
_N_IMAGES, _N_ROWS = 8, 100

#: Widths of the range that a value is far away, and that the values differ by.
_FAR, _WIDE = 2, 5

#: Width of a sliver, relative to the range. Levels of grey that masks have at most, and
#: dark images of 8 bits.
_SLIVER, _FEWEST_LEVELS, _FEW_LEVELS = 0.01, 3, 17

#: Scales of images, and the share of a scale that images reach.
_SCALES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 65535.0))
_REACHED = 0.9

_IS_ASKED = ContextVar("_IS_ASKED", default=True)


@contextmanager
def units_are_known():
    """In the block, nothing is told of units: X is a part of what has been checked."""
    token = _IS_ASKED.set(False)
    try:
        yield
    finally:
        _IS_ASKED.reset(token)


def tell_of_units(images, model):
    """Warn if the values of X do not look like those of fit.

    Parameters
    ----------
    images : Images
        A few are read.
    model : Model
        What fit has learned.
    """
    if not _IS_ASKED.get():
        return
    has_places, value_range = images.layout.has_places, model.value_range
    index = some_of(len(images), _N_IMAGES if has_places else _N_ROWS)
    some = value_range.without_special(images.read(index).cpu()).flatten(2)
    if has_places:
        is_8_bit = images.data.dtype in (np.uint8, torch.uint8)
        tell_of_units_of_images(list(some), value_range, is_8_bit)
    else:
        kept = value_range.to_user(model.samples[..., None, None]).flatten(1)
        _tell_of_units_of_rows(some.flatten(1), value_range, _usual_sizes(kept))


def range_of(rows):
    """The `ValueRange` of an array of rows (n, n_channels)."""
    ends = [np.asarray(end, dtype=np.float64) for end in (rows.min(0), rows.max(0))]
    return ValueRange(*(torch.from_numpy(end)[:, None, None] for end in ends))


def some_of(n, most=_N_IMAGES):
    """Numbers of so many of n images at most, from the first to the last."""
    return np.linspace(0, n - 1, min(n, most)).round().astype(int)


def tell_of_units_of_images(images, value_range, is_8_bit):
    """Warn if the values of images do not look like those of fit.

    Parameters
    ----------
    images : list of tensors of shape (channels, n_pixels), float64
    value_range : ValueRange
    is_8_bit : bool
        Whether their type is of 8 bits.
    """
    if not _IS_ASKED.get():
        return
    low, high = value_range.low.flatten(1), value_range.high.flatten(1)
    width, n = high - low, len(images)
    # A constant image may be black or white in any units.
    images = [x for x in images if (x.amin(1) < x.amax(1)).any()]
    if 2 * len(images) <= n or not (width > 0).any():
        return
    whole = torch.cat(images, 1)
    spread = whole.amax(1, keepdim=True) - whole.amin(1, keepdim=True)
    is_wide = bool((spread[width > 0] > _WIDE * width[width > 0]).all())
    n_far = is_wide * sum(_share_far(x, low, high) > 0.5 for x in images)
    is_sliver = (spread <= _SLIVER * width)[width > 0].all()
    if 2 * n_far > n:
        what = "Most values of X lie far outside the values of the images of fit"
    elif is_sliver and _looks_whole(whole, is_8_bit):
        what = "The values of X differ by less than a hundredth of those of fit"
    else:
        return
    known = low.min().item(), high.max().item()
    found = whole.min().item(), whole.max().item()
    values, advice = _compared(found, known, is_8_bit)
    warn_user(
        f"{what}: {values}. If X has other units, its scores tell nothing of "
        f"anomalies: pass {advice}."
    )


def _share_far(x, low, high):
    """The share of the values of an image that lie far outside the range."""
    width = high - low
    # Both are usual in any units: nothing there, and all that a sensor can count.
    tells = (x != 0) & (x != x.amax(1, keepdim=True))
    tells = tells if tells.any() else x != 0
    outside = torch.maximum(x - high, low - x)
    tells &= (width > 0).expand_as(x)
    return (outside > _FAR * width)[tells].double().mean().item()


def _looks_whole(values, is_8_bit):
    """Whether values look like images of a usual scale, and not like dark images."""
    low, high, n_levels = values.min().item(), values.max().item(), len(values.unique())
    if _scale_of(low, high, _REACHED) and high - low > high / 2:
        return n_levels > _FEWEST_LEVELS
    return is_8_bit and n_levels > _FEW_LEVELS


def _scale_of(low, high, reached=0.5):
    """The usual scale of values with these ends, or None."""
    for scale in _SCALES:
        if scale[0] <= low and reached * scale[1] <= high <= scale[1]:
            return scale
    return None


def _compared(found, known, is_8_bit):
    """Which values there are and were, and what would work."""
    scale, known_scale = _scale_of(*found), _scale_of(*known)
    if is_8_bit:
        scale = 0.0, 255.0
    if scale and known_scale and scale != known_scale:
        return (
            f"X has values from {scale[0]:.0f} to {scale[1]:.0f}, fit had "
            f"{known_scale[0]:.0f} to {known_scale[1]:.0f}"
        ), _conversion(scale, known_scale)
    ratio = (found[1] - found[0]) / (known[1] - known[0])
    return (
        f"X has values from {found[0]:.3g} to {found[1]:.3g}, fit had {known[0]:.4g} "
        f"to {known[1]:.4g}, a factor of about {_rounded(ratio)}"
    ), "X in the units of the images of fit"


def _rounded(ratio):
    if ratio < 1:
        return f"1/{_rounded(1 / ratio)}"
    return f"{float(f'{ratio:.1g}'):g}"


def _conversion(scale, wanted):
    """X of a scale as values of another one, in Python."""
    ratio = (wanted[1] - wanted[0]) / (scale[1] - scale[0])
    x = "X" if scale[0] == 0 else f"(X + {-scale[0]:g})"
    # A number with a point turns integers into float64.
    x = f"{x} * {ratio:.1f}" if ratio >= 1 else f"{x} / {1 / ratio:g}"
    return x if wanted[0] == 0 else f"{x} - {-wanted[0]:g}"


def _usual_sizes(rows):
    """The median absolute value in each column of rows (n, n_columns)."""
    return rows.abs().median(0).values if len(rows) else torch.zeros(rows.shape[1])


def _tell_of_units_of_rows(rows, value_range, sizes):
    """Warn if most columns of rows do not look like those of fit.

    Parameters
    ----------
    rows : tensor of shape (n, n_columns), float64
    value_range : ValueRange
    sizes : tensor of shape (n_columns,)
        `_usual_sizes` of rows of fit: where tails are long, most rows lie in a sliver.
    """
    if not _IS_ASKED.get():
        return
    low, high = value_range.low.flatten(), value_range.high.flatten()
    is_used = high > low
    rows, sizes = rows[:, is_used], sizes[is_used]
    low, high = low[is_used], high[is_used]
    width, n_columns = high - low, len(low)
    if len(rows) < 2 or n_columns == 0:
        return
    spread = rows.amax(0) - rows.amin(0)
    outside = torch.maximum(rows - high, low - rows)
    is_far = (outside > _FAR * width).double().mean(0) > 0.5
    is_far &= spread > _WIDE * width
    is_sliver = rows.abs().amax(0) <= _SLIVER * width
    is_sliver &= (_usual_sizes(rows) < _SLIVER * sizes) & (len(rows) >= _N_IMAGES)
    for is_odd, what in (
        (is_far, "most values of X lie far outside the values of fit"),
        (is_sliver, "all values of X lie within a hundredth of the values of fit"),
    ):
        is_odd &= spread > 0
        if 2 * int(is_odd.sum()) > n_columns:
            factor = _rounded((spread / width)[is_odd].median().item())
            warn_user(
                f"In {int(is_odd.sum())} of {n_columns} columns, {what}, by a factor "
                f"of about {factor}. If X has other units, its scores tell nothing of "
                "anomalies: transform X as the rows of fit, for example by the same "
                "scaler."
            )
            return
