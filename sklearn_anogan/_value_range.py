# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The value range of images: what is mapped to [-1, 1], and what looks wrong in it.

Of rows, each column has a range of its own, see `_columns.py`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch

from ._columns import is_same, measure_columns, tell_of_far_values
from ._warnings import warn_user

#: Scaled values beyond this leave too little of float32's range for the networks.
_LARGEST_SCALED = 1e20

#: Values of each channel that are looked at more closely, drawn from all images.
_N_SAMPLED = 200_000

#: Share of the values that are few, and share of the images.
_FEW, _FEW_IMAGES = 3e-3, 0.02

#: Fewest images of which one is odd.
_FEWEST_IMAGES = 8

#: Most values that may stand for missing pixels, each far from all others.
_MOST_LONELY = 3

#: Few values do not set the range if it were this many times as wide with them. A value
#: is told of if it lies this many times the range of all others away.
_WIDE = 4

#: Images of 8 bits that use less than these many of the 256 levels have a range of
#: their own; those that use at most the second number are told of.
_FEW_LEVELS, _HARDLY_ANY_LEVELS = 64, 17


class ValueRange(NamedTuple):
    """The affine map of each channel between the user's units and [-1, 1].

    Training images span [-1, 1] exactly (``uint8`` images: 0 maps to -1, 255 to 1), but
    for few odd values. Values outside the range are not clipped in scores. Values that
    stand for something else, such as -9999 in a column of rows, are read as the median
    of the other values.
    """

    low: torch.Tensor  # (channels, 1, 1) float64
    high: torch.Tensor  # (channels, 1, 1) float64
    # (n, 3) float64: channel, value that stands for something else, median
    special: torch.Tensor = torch.empty(0, 3, dtype=torch.float64)

    # The ends are halved first, because their sum or difference could overflow.

    @property
    def centre(self):
        return self.low / 2 + self.high / 2

    @property
    def half_width(self):
        half_width = self.high / 2 - self.low / 2
        return half_width.where(half_width > 0, 1.0)  # 1 for a constant channel

    @classmethod
    def measure(cls, images, names=None):
        """Range of the training images.

        Parameters
        ----------
        images : Images
        names : sequence of str or None
            Of the columns of rows.

        Raises
        ------
        ValueError
            If no value differs from any other in its channel, or if float32 cannot hold
            all values.

        Warns
        -----
        UserWarning
            If few values, or a single value, lie far from all others, or if images of 8
            bits use few of the levels.
        """
        if not images.layout.has_places:
            return cls._measure_columns(images, names)
        channels = _look_through(images)
        ends = [(channel.low, channel.high) for channel in channels]
        _check_not_constant(ends)
        ends = [channel.usual_ends() for channel in channels]
        _tell_of_odd_values(channels, ends)
        if known := images.layout.known_range(images.data.dtype):
            low, high = min(low for low, _ in ends), max(high for _, high in ends)
            n_levels = high - low + 1
            if n_levels >= _FEW_LEVELS:
                ends = [known] * len(ends)
            elif n_levels <= _HARDLY_ANY_LEVELS:
                _tell_of_few_levels(low, high)
        return cls(*_of_channels(ends))

    @classmethod
    def _measure_columns(cls, images, names):
        ends, far = measure_columns(images)
        _check_not_constant(ends)
        tell_of_far_values(far, len(images), names, _LARGEST_SCALED)
        special = [(f.column, f.value, f.median) for f in far if f.is_repeated]
        special = torch.tensor(special, dtype=torch.float64).reshape(-1, 3)
        return cls(*_of_channels(ends), special)

    def to_network(self, images, device):
        """Images in the user's units to float32 around [-1, 1] on ``device``."""
        where = images.device
        images = self.without_special(images)
        x = (images - self.centre.to(where)) / self.half_width.to(where)
        if not (x.abs() <= _LARGEST_SCALED).all():
            raise ValueError(
                "X has values too far outside the range of the training images, "
                f"{self.low.min():.6g} to {self.high.max():.6g}: the largest is "
                f"{images.abs().max():.3g}. Check that X has the units of the training "
                "images."
            )
        return x.to(device, torch.float32)

    def to_user(self, x):
        """Images around [-1, 1] to the user's units, float64 on the CPU."""
        return x.detach().cpu().double() * self.half_width + self.centre

    def clip(self, images):
        """Images in the user's units with no value outside the range."""
        where = images.device
        images = self.without_special(images)
        return images.clamp(self.low.to(where), self.high.to(where))

    def without_special(self, images):
        """Images in the user's units without values that stand for something else."""
        if len(self.special) == 0:
            return images
        images = images.clone()
        for channel, value, median in self.special.tolist():
            of_channel = images[:, int(channel)]
            of_channel[is_same(of_channel, value)] = median
        return images


@dataclass(frozen=True)
class _Channel:
    """What the values of one channel of all images are like."""

    lows: torch.Tensor  # (n_images,) float64, of each image
    highs: torch.Tensor
    sample: torch.Tensor  # (n,) float64, ascending

    @property
    def low(self):
        return self.lows.min().item()

    @property
    def high(self):
        return self.highs.max().item()

    @property
    def n_few(self):
        """How many values of the sample are few."""
        return max(1, int(_FEW * len(self.sample)))

    def usual_ends(self):
        """The lowest and the highest value, without few that lie far away.

        Few values are odd, wherever they are, and all values of few images.
        """
        few = min(self.n_few, (len(self.sample) - 1) // 2)
        candidates = [(self.sample, self.sample, few)]
        if (n := len(self.lows)) >= _FEWEST_IMAGES:
            few = max(1, int(_FEW_IMAGES * n))
            candidates.append((self.lows.sort().values, self.highs.sort().values, few))
        for lows, highs, few in candidates:
            low, high = lows[few], highs[-1 - few]
            width = high - low
            low = lows[lows >= low - width][0].item()
            high = highs[highs <= high + width][-1].item()
            if low < high and self.high / _WIDE - self.low / _WIDE > high - low:
                return low, high
        return self.low, self.high

    def lonely_values(self):
        """Values of many pixels far from all others: (values, share, low, high).

        The answer is None if there are none. Low and high are the ends of all other
        values.
        """
        found, values, others = None, [], self.sample
        for _ in range(_MOST_LONELY):
            ends = others[0], others[-1]
            # The value at the end that lies farther from the middle of the others.
            middle = others.median()
            value = max(ends, key=lambda end: (end - middle).abs())
            values.append(value.item())
            others = others[others != value]
            if len(others) == 0 or others[0] == others[-1]:
                break
            low, high = others[[0, -1]].tolist()
            gaps = [min(abs(value - low), abs(value - high)) for value in values]
            n_lonely = len(self.sample) - len(others)
            if min(gaps) > _WIDE * (high - low) and n_lonely > self.n_few:
                found = [*values], n_lonely / len(self.sample), low, high
        return found


def _look_through(images):
    """The `_Channel`s of all images, which are read once."""
    n_channels, height, width = images.layout.chw
    n, n_pixels = len(images), height * width
    n_drawn = min(n_pixels, -(-_N_SAMPLED // n))
    rng = torch.Generator().manual_seed(0)
    # Allocated once: small pieces between the blocks would keep the blocks' memory.
    lows, highs = torch.empty(2, n_channels, n, dtype=torch.float64)
    samples = torch.empty(n_channels, n, n_drawn, dtype=torch.float64)
    start = 0
    for block in images.blocks():
        values = block.movedim(1, 0).flatten(2).cpu()  # (channels, images, pixels)
        rows = slice(start, start := start + values.shape[1])
        lows[:, rows], highs[:, rows] = values.amin(2), values.amax(2)
        if n_drawn < n_pixels:
            places = torch.randint(n_pixels, (values.shape[1], n_drawn), generator=rng)
            values = values.gather(2, places.expand(n_channels, -1, -1))
        samples[:, rows] = values[..., :n_drawn]
    return [
        _Channel(lows, highs, sample.flatten().sort().values)
        for lows, highs, sample in zip(lows, highs, samples, strict=True)
    ]


def _check_not_constant(ends):
    if all(low == high for low, high in ends):
        raise ValueError(
            "All images of X are constant and equal: there is nothing to learn. "
            "Pass images that differ from each other."
        )


def _of_channels(ends):
    """Pairs of ends as two tensors (channels, 1, 1)."""
    return torch.tensor(ends, dtype=torch.float64).T[..., None, None]


def _tell_of_odd_values(channels, ends):
    """Warn of few values, and of single values, that lie far from all others."""
    for channel, (low, high) in zip(channels, ends, strict=True):
        if (low, high) != (channel.low, channel.high):
            far, number = channel.low, channel.lows.argmin()
            if channel.high - high > low - channel.low:
                far, number = channel.high, channel.highs.argmax()
            what = (
                f"Image {number} of X has the value {far:.6g}, but nearly all values "
                f"lie between {low:.6g} and {high:.6g}."
            )
            if abs(far) / _LARGEST_SCALED > high - low:
                raise ValueError(
                    f"{what} float32 cannot hold both. Replace such values, or leave "
                    "the image out."
                )
            warn_user(
                f"{what} The value range is learned without such values: training "
                "clips them, scores do not. If they are errors, replace them or leave "
                "the image out; if they are usual, transform X, for example by "
                "np.log1p."
            )
            return
        if found := channel.lonely_values():
            values, share, low, high = found
            named = " or ".join(f"{value:.9g}" for value in sorted(values))
            warn_user(
                f"{share:.1%} of the values of X are {named}, and all others lie "
                f"between {low:.6g} and {high:.6g}, so that the images have little "
                "contrast. If they stand for missing pixels, replace them: np.where((X "
                f"< {low:.9g}) | (X > {high:.9g}), {low:.6g}, X)."
            )
            return


def _tell_of_few_levels(low, high):
    warn_user(
        f"X is of type uint8, but its values lie between {low:.0f} and {high:.0f}: "
        "this range is learned, not 0 to 255. Check that fractions have not been cut "
        "off, as by X.astype(np.uint8) of values between 0 and 1. If the values are "
        "right, X.astype(np.float32) has the same scores without this warning."
    )
