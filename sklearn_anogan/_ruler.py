# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""The ruler of places: how unusual an image is in each place, without a generator.

The ruler measures two distances in each place of an image.

* The *coarse* distance compares textures and edges on a grid of places. What filters
  see is the image relative to the brightness and the contrast of the neighbourhood,
  beside this brightness and this contrast. The filters are the leading principal
  components of small patches, as convolutions. A place is described by the filters'
  responses, and by the sizes of the responses, at several resolutions. The
  descriptions of all places together have principal components over the images. The
  leading ones tell what the image is like as a whole, and are taken away. The distance
  is the Mahalanobis distance of the rest, with a covariance for each place. This is the
  idea of PaDiM (Defard et al. 2020, :doi:`10.48550/arXiv.2011.08785`) with filters that
  are learned from the images.
* The *fine* distance compares pixels: it is what the leading principal components of
  whole images leave. With many channels, the Mahalanobis distance of what is left over
  the channels is added: a spectrum unlike those of normal pixels is seen, and a change
  of a single channel.

All of this is linear algebra on normal images. It takes seconds, where networks take
minutes.
"""

from math import ceil, prod

import numpy as np
import torch
from scipy.linalg import eigh
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, pad

from ._images import TrainingImages, resized, within
from ._warnings import warn_user

#: Longest side in pixels of the images that are measured. Larger images are shrunk.
LONGEST_SIDE = 128

#: Images are large if the ruler shrinks them by more than this.
_MUCH = 4

#: Places along the longer side of the grid, and pixels of a place at least.
_MOST_PLACES, _LEAST_PIXELS = 32, 2

#: Shorter images have no places.
LEAST_SIDE = 4

#: Side of a filter, factors by which images are shrunk for the filters, and filters for
#: each factor.
_FILTER_SIDE, _FACTORS, _N_FILTERS = 8, (1, 2, 4), 20

#: Bands that filters are learned from. More bands are mixed to so many first.
_MOST_BANDS = 12

#: Numbers that describe a place.
_N_NUMBERS = 64

#: Radius in pixels of the neighbourhood that pixels are compared with.
_RADIUS = 4

#: Brightness and contrast, as shares of the whole range, that count as none.
_DARK, _FLAT = 0.05, 0.02

#: Most images to learn from. If images are large and have many bands, most numbers in
#: all of the images, 1 GB, but not less than so many images.
MOST_IMAGES, _MOST_VALUES, _LEAST_MANY = 1000, 2**28, 100

#: Components of descriptions: one for so many images, and at most so many.
_IMAGES_OF_A_COMPONENT, _MOST_COMPONENTS = 10, 64

#: Most components of pixels.
_PIXEL_COMPONENTS = 16

#: Variance of responses that is taken for rounding errors.
_LEAST_VARIANCE = 1e-6

#: Variance that is added to each whitened number, relative to the variance over all
#: places, which is 1.
_RIDGE = 0.1

#: Variance that is added to each band, relative to the mean variance of the bands.
_BAND_RIDGE = 0.01

#: Patches to learn the filters from, and places to learn the whitening from.
_N_PATCHES, _N_PLACES = 20_000, 200_000

#: Images in a block while the ruler learns, and most numbers in them. Images of few
#: bands never have more.
_BLOCK, _BLOCK_VALUES = 32, 2**23


class Ruler(nn.Module):
    """What normal images look like in each place.

    Parameters
    ----------
    tensors : dict
        float32. With c channels, images of height x width pixels, p places, and k
        numbers to describe one: ``filters_1``, ``filters_2``, ... (n, 2 c + 1, side,
        side), one for each resolution; ``response_mean`` (d,); ``whitening`` (d, k);
        ``centre`` (p, k); ``components`` (n, p, k); ``roots`` (p, k, k), the inverses
        of the covariances' roots; ``pixel_centre`` (c, height, width);
        ``pixel_components`` (n, c, height, width). With more than `_MOST_BANDS`
        channels, ``band_whitening`` (c, c); files of version 0.1.0 do without.
    """

    def __init__(self, tensors):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.contiguous())

    @property
    def size(self):
        """Height and width of the images that are measured."""
        return tuple(self.pixel_centre.shape[1:])

    @property
    def grid(self):
        """Rows and columns of the places."""
        return _grid(self.size)

    @property
    def filters(self):
        """Factor by which an image is shrunk -> filters."""
        return {
            factor: self.get_buffer(f"filters_{factor}")
            for factor in _factors(self.size)
        }

    @classmethod
    @torch.no_grad()
    def learn(cls, x):
        """Learn from normal images.

        Parameters
        ----------
        x : tensor of shape (n, channels, height, width), float32 on the CPU
            In [-1, 1]; height and width as `measured_size` tells.
        """
        n, size = len(x), tuple(x.shape[2:])
        filters = _learn_filters(x)
        responses = torch.cat([_responses(block, filters) for block in _blocks(x)])
        mean, whitening = _whitening(responses.flatten(0, 1))
        f = (responses - mean) @ whitening
        del responses
        centre = f.mean(0)
        f -= centre
        n_components = min(_MOST_COMPONENTS, n // _IMAGES_OF_A_COMPONENT)
        components = _components(f, n_components)
        f -= _explained(f, components)
        y = torch.cat([brightness(block) for block in _blocks(x)])
        pixel_centre = y.mean(0)
        y -= pixel_centre
        n_components = min(_PIXEL_COMPONENTS, n // 2)
        pixel_components = _components(y, n_components)
        optional = {}
        if x.shape[1] > _MOST_BANDS:
            optional["band_whitening"] = _band_whitening(y, pixel_components)
        return cls(
            {f"filters_{factor}": each for factor, each in filters.items()}
            | {
                "response_mean": mean,
                "whitening": whitening,
                "centre": centre,
                "components": components,
                "roots": _inverse_roots(f, _grid(size)),
                "pixel_centre": pixel_centre,
                "pixel_components": pixel_components,
            }
            | optional
        )

    def forward(self, x):
        """Measure images, one by one, so that no image changes another's bits.

        Parameters
        ----------
        x : tensor of shape (n, channels, height, width)
            Of the size of the images learned from, float32.

        Returns
        -------
        coarse : tensor of shape (n, rows, columns)
        fine : tensor of shape (n, height, width)
            Distances in each place and in each pixel, at least 0.
        """
        pairs = [self._measure(image[None]) for image in x.contiguous()]
        return tuple(torch.cat(each) for each in zip(*pairs, strict=True))

    def _measure(self, x):
        responses = _responses(x, self.filters)
        f = (responses - self.response_mean) @ self.whitening - self.centre
        f = f - _explained(f, self.components)
        coarse = (self.roots * f[0, :, None]).sum(2).square().sum(1).sqrt()
        y = brightness(x) - self.pixel_centre
        left = y - _explained(y, self.pixel_components)
        squares = left.square()
        if hasattr(self, "band_whitening"):
            squares = squares + _mixed(left, self.band_whitening).square()
        fine = smooth(squares.mean(1, keepdim=True)).sqrt()
        return coarse.reshape(1, *self.grid), fine[:, 0]


def learn_ruler(images, value_range, index):
    """A ruler for the images at ``index``; None if the images have no places.

    Parameters
    ----------
    images : Images
    value_range : ValueRange
    index : ndarray of shape (n,)
        Of normal images. Of more than 1000, some are taken; of fewer, if images are
        large and have many channels.
    """
    n_channels, *size = images.layout.chw
    size = measured_size(*size)
    if size is None:
        return None
    n_fitting = max(_LEAST_MANY, _MOST_VALUES // (n_channels * prod(size)))
    n = min(len(index), MOST_IMAGES, n_fitting)
    rows = np.linspace(0, len(index) - 1, n).round()
    source = TrainingImages(
        images, value_range, torch.device("cpu"), index[rows.astype(int)], size
    )
    return Ruler.learn(torch.cat([*source.blocks()]))


def tell_of_large(layout, network_side):
    """Warn of images of which much is lost when they are shrunk."""
    height, width = layout.chw[1:]
    shrink = max(height, width) / LONGEST_SIDE
    if shrink <= _MUCH:
        return
    if network_side is None:
        what = "seen whole by the networks, which may take hours and gigabytes"
    else:
        what = (
            f"shrunk to {LONGEST_SIDE} pixels, and to {network_side} for the "
            f"networks: defects of less than {shrink:.0f} pixels disappear"
        )
    warn_user(
        f"Images of {height} x {width} pixels are {what}. PatchDetector looks at "
        "large images piece by piece. If what is anomalous is large, shrink the "
        "images, for example by load_images(folder, size=(256, 256))."
    )


def measured_size(height, width):
    """Height and width at which images are measured; None if they have no places."""
    if min(height, width) < LEAST_SIDE:
        return None
    size = within(height, width, LONGEST_SIDE)
    return size if min(size) >= LEAST_SIDE else None


def expected_shapes(tensors, n_channels, size):
    """Name -> shape that a tensor of a `Ruler` should have, from a few of them all."""
    n_numbers = tensors["whitening"].shape[1]
    n_components = len(tensors["components"])
    n_pixel_components = len(tensors["pixel_components"])
    rows, columns = _grid(size)
    n_places = rows * columns
    shapes = {
        f"filters_{factor}": (
            len(tensors[f"filters_{factor}"]),
            2 * n_channels + 1,
            _filter_side(size),
            _filter_side(size),
        )
        for factor in _factors(size)
    }
    n_responses = 2 * sum(shape[0] for shape in shapes.values())
    if n_channels > _MOST_BANDS and "band_whitening" in tensors:
        shapes["band_whitening"] = (n_channels, n_channels)
    return shapes | {
        "response_mean": (n_responses,),
        "whitening": (n_responses, n_numbers),
        "centre": (n_places, n_numbers),
        "components": (n_components, n_places, n_numbers),
        "roots": (n_places, n_numbers, n_numbers),
        "pixel_centre": (n_channels, *size),
        "pixel_components": (n_pixel_components, n_channels, *size),
    }


def brightness(x):
    """Brightness as ratios: differences of the logarithm, for values of any sign.

    A light that is twice as strong then adds the same everywhere.
    """
    value = (x + 1) / 2
    return value.sign() * (value.abs() / _DARK).log1p()


def views_of(x):
    """Three views of an image: details, and brightness and contrast of neighbourhoods.

    Parameters
    ----------
    x : tensor of shape (n, channels, height, width)

    Returns
    -------
    views : tensor of shape (n, 2 * channels + 1, height, width)
        In each channel, the difference from the mean of the neighbourhood, divided by
        the mean size of such differences; in each channel, the mean of the
        neighbourhood, relative to the mean of the image; and the logarithm of the mean
        size of the differences.
    """
    y = brightness(x)
    radius = min(_RADIUS, min(y.shape[2:]) // 2)
    mean = _blurred(y, radius)
    difference = y - mean
    scale = _blurred(difference.abs().mean(1, keepdim=True), radius) + _FLAT
    relative = mean - mean.mean((2, 3), keepdim=True)
    return torch.cat([difference / scale, relative, scale.log()], 1)


def smooth(maps):
    """Means over 3x3 places of (n, k, rows, columns)."""
    return avg_pool2d(pad(maps, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def _blurred(y, radius):
    """Means over a neighbourhood, twice; rows and columns apart, which is faster."""
    side = 2 * radius + 1
    for _ in range(2):
        y = avg_pool2d(pad(y, (radius,) * 4, "reflect"), (side, 1), stride=1)
        y = avg_pool2d(y, (1, side), stride=1)
    return y


def _factors(size):
    """Factors by which images of this size are shrunk for the filters."""
    return [f for f in _FACTORS if f == 1 or min(size) // f >= _FILTER_SIDE]


def _filter_side(size):
    return min(_FILTER_SIDE, min(size) // 2)


def _grid(size):
    """Rows and columns of the places of images of this size."""
    n_places = min(_MOST_PLACES, ceil(max(size) / _LEAST_PIXELS))
    return within(*size, n_places)


def _blocks(x):
    """Images (n, channels, height, width) in blocks."""
    return x.split(min(_BLOCK, max(1, _BLOCK_VALUES // x[0].numel())))


def _learn_filters(x):
    """Factor by which images are shrunk -> filters, from some of the images.

    A matrix that grows with the square of the number of bands would have to be
    decomposed. So more than `_MOST_BANDS` bands are mixed to so many before, details
    and neighbourhoods apart. Filters on mixed bands are filters on all bands.
    """
    rows = torch.linspace(0, len(x) - 1, min(len(x), 200)).round().long()
    blocks = _blocks(x[rows])
    factors = _factors(x.shape[2:])
    if x.shape[1] <= _MOST_BANDS:
        views = torch.cat([views_of(block) for block in blocks])
        return {factor: _leading_filters(views, factor) for factor in factors}
    mixes = _leading_mixes(blocks)
    views = torch.cat([_mixed(views_of(block), mixes) for block in blocks])
    return {
        factor: _mixed(_leading_filters(views, factor), mixes.T).contiguous()
        for factor in factors
    }


def _leading_mixes(blocks):
    """Orthonormal mixes of views that vary most from pixel to pixel.

    Returns
    -------
    mixes : tensor of shape (2 * `_MOST_BANDS` + 1, 2 * channels + 1), float32
        Of details, of neighbourhoods, and the contrast as it is.
    """
    n_channels = blocks[0].shape[1]
    scatter = torch.zeros(2, n_channels, n_channels, dtype=torch.float64)
    for block in blocks:
        of_bands = views_of(block)[:, :-1].movedim(1, 0).reshape(2, n_channels, -1)
        scatter += of_bands @ of_bands.mT  # their means are about 0
    leading = n_channels - _MOST_BANDS, n_channels - 1
    mixes = [eigh(each.numpy(), subset_by_index=leading)[1].T for each in scatter]
    return torch.block_diag(*map(torch.from_numpy, mixes), torch.ones(1, 1)).float()


def _mixed(views, mixes):
    """Mixes (m, k) of views (n, k, height, width): (n, m, height, width)."""
    return torch.einsum("mk,nkhw->nmhw", mixes, views)


def _leading_filters(views, factor):
    """Leading principal components of patches, (n, 2 * channels + 1, side, side)."""
    views = avg_pool2d(views, factor)
    n, n_views, height, width = views.shape
    side = _filter_side((height * factor, width * factor))
    rng = torch.Generator().manual_seed(0)
    limits = n, height - side + 1, width - side + 1
    i, top, left = (
        torch.randint(limit, (_N_PATCHES,), generator=rng) for limit in limits
    )
    windows = views.unfold(2, side, 1).unfold(3, side, 1)  # without a copy
    patches = windows[i, :, top, left].flatten(1)
    _, vectors = torch.linalg.eigh(torch.cov(patches.T).double())
    filters = vectors[:, -_N_FILTERS:].T.float()
    return filters.reshape(-1, n_views, side, side).contiguous()


def _responses(x, filters):
    """Responses of all filters and their absolute values, (n, places, responses)."""
    views, grid, found = views_of(x), _grid(x.shape[2:]), []
    for factor, weight in filters.items():
        side = weight.shape[-1]
        around = (side // 2, side - 1 - side // 2) * 2
        shrunk = avg_pool2d(views, factor)
        # Two responses along a side of a place are enough.
        pixels = min(shrunk.shape[2] // grid[0], shrunk.shape[3] // grid[1])
        stride = 2 if pixels >= 4 else 1
        r = conv2d(pad(shrunk, around, mode="reflect"), weight, stride=stride)
        found.append(resized(torch.cat([r, r.abs()], 1), grid))
    return smooth(torch.cat(found, 1)).flatten(2).movedim(1, 2)


def _whitening(responses):
    """Mean of responses (n, d), and a matrix (d, k) that makes them uncorrelated."""
    step = max(1, len(responses) // _N_PLACES)
    mean = responses.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(responses[::step].T).double())
    is_kept = values > max(1e-6 * values[-1], _LEAST_VARIANCE)
    values, vectors = values[is_kept], vectors[:, is_kept]
    whitening = vectors[:, -_N_NUMBERS:] / values[-_N_NUMBERS:].sqrt()
    return mean, whitening.float()


def _components(f, n_components):
    """Leading principal components of centred f (n, ...), (n_components, ...)."""
    flat = f.flatten(1)
    values, vectors = torch.linalg.eigh((flat @ flat.T).double())
    n_components = min(n_components, int((values > 1e-6 * values[-1]).sum()))
    first = len(values) - n_components
    weights = (vectors[:, first:] / values[first:].sqrt()).float()
    return (weights.T @ flat).reshape(n_components, *f.shape[1:])


def _explained(f, components):
    """The part of f (n, ...) that the components explain."""
    flat = components.flatten(1)
    return ((f.flatten(1) @ flat.T) @ flat).reshape(f.shape)


def _band_whitening(y, components):
    """A matrix (c, c) that whitens the bands of what components leave of y.

    What is left has about the same mean square before and after.
    """
    n_channels = y.shape[1]
    covariance = torch.zeros(n_channels, n_channels, dtype=torch.float64)
    for block in _blocks(y):
        left = (block - _explained(block, components)).movedim(1, 0).flatten(1)
        covariance += left @ left.T
    scale = covariance.diagonal().mean()
    if scale > 0:  # or all images are alike
        covariance /= scale
    eye = torch.eye(n_channels, dtype=torch.float64)
    root = torch.linalg.cholesky(covariance + _BAND_RIDGE * eye)
    return torch.linalg.solve_triangular(root, eye, upper=False).float()


def _inverse_roots(f, grid):
    """Matrices (p, k, k) that whiten f (n, p, k) in each place.

    The covariance of a place is averaged with those of the places next to it.
    """
    n, n_places, k = f.shape
    if k == 0:  # all images are alike
        return f.new_zeros(n_places, 0, 0)
    covariance = torch.einsum("npi,npj->ijp", f, f) / n
    covariance = smooth(covariance.reshape(1, k * k, *grid))
    covariance = covariance.reshape(k, k, n_places).permute(2, 0, 1)
    eye = torch.eye(k, dtype=torch.float64)
    roots = torch.linalg.cholesky(covariance.double() + _RIDGE * eye)
    inverse = torch.linalg.solve_triangular(roots, eye.expand_as(roots), upper=False)
    return inverse.float().contiguous()
