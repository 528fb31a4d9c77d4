# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Images of files, and synthetic images for examples and tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from numbers import Integral, Real
from os import PathLike
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions

from ._base import own_random_state
from ._compat import validate_params
from ._image_files import ImageFiles, load
from ._types import Seed
from ._warnings import warn_user

__all__ = ["load_images", "make_retina"]

#: Layers from the inside out: share of the retina's thickness, and reflectivity. The
#: vitreous lies before the first layer, the choroid behind the last layer.
_LAYERS = {
    "nerve fibres": (0.12, 0.75),
    "ganglion cells": (0.14, 0.50),
    "inner plexiform": (0.10, 0.60),
    "inner nuclear": (0.10, 0.35),
    "outer plexiform": (0.08, 0.55),
    "outer nuclear": (0.24, 0.32),
    "photoreceptors": (0.12, 0.70),
    "pigment epithelium": (0.10, 0.90),
}
_VITREOUS, _CHOROID, _FLUID, _FOCUS = 0.05, 0.55, 0.04, 1.3

#: Number of inner layers, which are thinner in the fovea.
_INNER = 4

#: Looks averaged in a scan. The contrast of the speckle is 1 / sqrt(_N_LOOKS).
_N_LOOKS = 12


@validate_params(
    {
        "folder": "no_validation",
        "size": [
            Interval(Integral, 1, None, closed="left"),
            tuple,
            list,
            np.ndarray,
            None,
        ],
        "color": [StrOptions({"auto", "grey", "rgb"})],
        "on_error": [StrOptions({"raise", "skip"})],
    },
    prefer_skip_nested_validation=True,
)
def load_images(
    folder: str | PathLike[str] | Iterable[str | PathLike[str]],
    size: int | Sequence[int] | NDArray[np.integer[Any]] | None = None,
    *,
    color: Literal["auto", "grey", "rgb"] = "auto",
    on_error: Literal["raise", "skip"] = "raise",
) -> ImageFiles:
    """Load images from a folder, or from files.

    The values are those of the files: 8 and 16 bits and floating point stay what they
    are. Images are shown as a person sees them: upright as the tag of a camera says,
    negatives as positives, palettes and the inks of a printer as colours, black behind
    transparent places. Each page or frame of a file is an image; previews, reduced
    copies and masks within a file are none. Files are read when their images are
    needed.

    Parameters
    ----------
    folder : str, path, or iterable of paths
        Of a folder, all images that it and its subfolders hold, in the order of paths.
        A file is an image by the ending of its name, or else by its content. Hidden
        files and folders are left out, and so are maps that this library has drawn, and
        links to folders. Paths of files are taken as they are.

    size : int or pair (height, width), default=None
        Shrink or enlarge all images to this size; an int is both height and width. None
        leaves images as they are, of several sizes perhaps.

    color : {"auto", "grey", "rgb"}, default="auto"
        "auto" makes colours of all images if any has colours, and keeps all bands of
        images with two, four or more.

    on_error : {"raise", "skip"}, default="raise"
        "skip" leaves out files that cannot be read, and those whose type of values or
        number of bands differs from that of most files. To find such files, each file
        is decoded once before anything is answered.

    Returns
    -------
    images : ImageFiles
        X for both detectors. If all images have one size, it has ``shape`` and
        ``dtype`` and is indexed like an array (n, height, width) or (n, height, width,
        bands). Otherwise it is like a list of images, for a :class:`PatchDetector`.
        ``images.paths`` has the file of each image, ``images.left_out`` a reason for
        each path that was left out, and ``np.asarray(images)`` is an array.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no image in it.
    OSError
        If a folder cannot be read.
    ValueError
        If a file is no image, or has changed since it was loaded; if images have values
        of different types or different numbers of bands; if images have two, four or
        more bands, and `color` is "grey" or "rgb"; or, without `size`, if the pages of
        the only file have several sizes.
    TypeError
        If `folder` is neither a path nor an iterable of paths.
    ImportError
        If Pillow is not installed, or tifffile for TIFF files, or pydicom for DICOM
        files.

    Warns
    -----
    UserWarning
        If files are left out whose names are of images: links that lead nowhere, and
        files that `on_error` skips.

    Notes
    -----
    Pillow reads most files. tifffile finds the images of TIFF files and reads most of
    them; for some compressions it needs imagecodecs. pydicom reads DICOM files, for
    some compressions with a package that its message names. Of a PNG file with colours
    of more than 8 bits, Pillow reads 8 bits.

    The fourth band of a file may be alpha or, for instance, near infrared. It is taken
    for alpha if the file says so, and if most of its values are at their two ends or
    all are the same.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from PIL import Image
    >>> from sklearn_anogan.datasets import load_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for i in range(3):
    ...         image = Image.fromarray(np.full((40, 60), 80 * i, dtype=np.uint8))
    ...         image.save(Path(folder, f"{i}.png"))
    ...     images = load_images(folder, size=(20, 30))
    ...     X = np.asarray(images)
    >>> images
    <3 images, shape=(3, 20, 30), dtype=uint8>
    >>> X[:, 0, 0].tolist(), images.paths[2].name
    ([0, 80, 160], '2.png')
    """
    height_and_width = _height_and_width(size)
    if find_spec("PIL") is None:
        raise ImportError(
            "load_images needs Pillow: python -m pip install 'sklearn-anogan[images]'."
        )
    images, warning = load(folder, height_and_width, color, on_error)
    if warning is not None:
        warn_user(f"{warning}.")
    return images


def _height_and_width(size):
    """The parameter ``size`` as a pair, or None."""
    if size is None:
        return None
    sides = np.array(size, dtype=object).tolist()
    sides = sides if isinstance(sides, list) else [sides, sides]
    if len(sides) != 2 or not all(
        isinstance(n, Integral) and int(n) > 0 for n in sides
    ):
        raise ValueError(f"size must be one or two whole numbers, got {size!r}.")
    return tuple(int(n) for n in sides)


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "shape": [tuple, list],
        "anomalous": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_retina(
    n_samples: int = 100,
    shape: Sequence[int] = (96, 128),
    *,
    anomalous: float = 0.0,
    random_state: Seed = None,
) -> Bunch:
    """Make synthetic scans of retinas, as in optical coherence tomography.

    The images look a little like the scans of Schlegl et al. 2017. They are made of
    curved layers, a fovea, shadows of vessels and speckle. Use them to try things out,
    not for medical purposes. Anomalies are of three kinds, in equal shares: subretinal
    fluid (a dark dome on the pigment epithelium), intraretinal fluid (dark cysts in the
    nuclear layers) and bright foci between the nerve fibres and the photoreceptors.

    Parameters
    ----------
    n_samples : int, default=100
        Number of images.

    shape : tuple (height, width), default=(96, 128)
        Height and width of the images in pixels, at least 32 each.

    anomalous : float in [0, 1], default=0.0
        Share of anomalous images, which come last.

    random_state : int, RandomState instance or None, default=None
        Seed of the images. The same seed makes the same tissue for any `anomalous`.

    Returns
    -------
    retina : Bunch
        ``images``: uint8 of shape (n_samples, height, width). ``masks``: bool of the
        same shape, True where the tissue is anomalous. ``target``: int of shape
        (n_samples,), 1 for normal and -1 for anomalous images. ``kinds``: an array of
        str, "normal", "subretinal fluid", "intraretinal fluid" or "bright foci".

    Raises
    ------
    ValueError
        If `shape` is not two numbers of at least 32.

    Examples
    --------
    >>> from sklearn_anogan.datasets import make_retina
    >>> retina = make_retina(10, anomalous=0.3, random_state=0)
    >>> retina.images.shape
    (10, 96, 128)
    >>> retina.target
    array([ 1,  1,  1,  1,  1,  1,  1, -1, -1, -1])
    """
    if len(shape) != 2 or not all(isinstance(n, Integral) and n >= 32 for n in shape):
        raise ValueError(
            "shape must be (height, width), whole numbers of at least 32, got "
            f"{shape!r}."
        )
    seeds = own_random_state(random_state).randint(2**31 - 1, size=n_samples)
    n_normal = n_samples - round(anomalous * n_samples)
    makers = {
        "subretinal fluid": _subretinal_fluid,
        "intraretinal fluid": _intraretinal_fluid,
        "bright foci": _bright_foci,
    }
    kinds = np.full(n_samples, "normal", dtype="<U18")
    kinds[n_normal:] = np.resize([*makers], n_samples - n_normal)
    images = np.empty((n_samples, *shape), np.uint8)
    masks = np.zeros((n_samples, *shape), bool)
    for i, (seed, kind) in enumerate(zip(seeds, kinds, strict=True)):
        rng = np.random.RandomState(seed)
        boundaries = _boundaries(shape, rng)
        shadow, speckle = _shadows(shape, rng), _speckle(shape, rng)
        if kind in makers:
            boundaries, value, masks[i] = makers[kind](boundaries, shape, rng)
        tissue = _tissue(boundaries, shape)
        if kind in makers:
            # Anomalies get soft edges, like the layers.
            share = gaussian_filter(masks[i].astype(float), 0.6)
            tissue = (1 - share) * tissue + share * value
        y = np.arange(shape[0])[:, np.newaxis]
        tissue *= np.where(y > boundaries[1], shadow, 1)
        images[i] = np.clip(255 * tissue * speckle / 1.3, 0, 255)
    target = np.where(kinds == "normal", 1, -1)
    return Bunch(images=images, masks=masks, target=target, kinds=kinds)


def _boundaries(shape, rng):
    """Rows where layers begin, and the end of the last, (n_layers + 1, width)."""
    height, width = shape
    x = np.linspace(-1, 1, width)
    fovea = np.exp(-(((x - rng.uniform(-0.4, 0.4)) / rng.uniform(0.15, 0.3)) ** 2))
    thickness = 0.42 * height * rng.uniform(0.9, 1.1)
    shares = np.array([share for share, _ in _LAYERS.values()])[:, np.newaxis]
    layers = thickness * shares * rng.uniform(0.9, 1.1, size=shares.shape)
    layers = layers * np.ones(width)
    layers[:_INNER] *= 1 - rng.uniform(0.4, 0.8) * fovea
    waves = gaussian_filter1d(rng.normal(size=layers.shape), width / 10, axis=1)
    layers *= 1 + 2 * waves
    bottom = height * (rng.uniform(0.66, 0.76) + rng.uniform(-0.06, 0.06) * x)
    bottom = bottom - height * rng.uniform(0, 0.08) * x**2
    above = np.cumsum(layers[::-1], axis=0)[::-1]
    return np.vstack([bottom - above, bottom])


def _tissue(boundaries, shape):
    """Reflectivity of each pixel; the layers have soft edges."""
    y = np.arange(shape[0])[:, np.newaxis]
    tissue = np.full(shape, _VITREOUS)
    inner = _VITREOUS
    values = [value for _, value in _LAYERS.values()]
    for begin, value in zip(boundaries, [*values, _CHOROID], strict=True):
        tissue += (value - inner) * np.clip(y - begin + 0.5, 0, 1)
        inner = value
    depth = np.clip(y - boundaries[-1], 0, None) / shape[0]
    return tissue * np.exp(-4 * depth)


def _shadows(shape, rng):
    """Share of the light that reaches the tissue behind the vessels, (1, width)."""
    x = np.arange(shape[1])
    shadow = np.ones(shape[1])
    for _ in range(rng.poisson(2)):
        width = shape[1] * rng.uniform(0.008, 0.02)
        at = rng.uniform(0, shape[1])
        shadow *= 1 - rng.uniform(0.3, 0.6) * np.exp(-(((x - at) / width) ** 2))
    return shadow[np.newaxis]


def _speckle(shape, rng):
    """Multiplicative noise of mean 1."""
    return rng.gamma(_N_LOOKS, 1 / _N_LOOKS, size=shape)


def _subretinal_fluid(boundaries, shape, rng):
    """A dome on the pigment epithelium, which lifts the layers above."""
    x = np.arange(shape[1])
    at = rng.uniform(0.25, 0.75) * shape[1]
    half_width = rng.uniform(0.1, 0.2) * shape[1]
    rise = rng.uniform(0.08, 0.14) * shape[0]
    dome = rise * np.clip(1 - ((x - at) / half_width) ** 2, 0, None)
    floor = boundaries[-2]
    y = np.arange(shape[0])[:, np.newaxis]
    mask = (y > floor - dome) & (y < floor - 0.5) & (dome > 1)
    lift = gaussian_filter1d(dome, shape[1] / 30)
    lifted = np.vstack([boundaries[:-2] - np.maximum(dome, lift), boundaries[-2:]])
    return lifted, _FLUID, mask


def _intraretinal_fluid(boundaries, shape, rng):
    """Some cysts in the nuclear layers."""
    mask = np.zeros(shape, bool)
    for _ in range(rng.randint(2, 6)):
        layer = rng.choice([3, 5])
        at = rng.randint(0.1 * shape[1], 0.9 * shape[1])
        middle = boundaries[layer : layer + 2, at].mean()
        size = shape[0] * np.array([rng.uniform(0.03, 0.06), rng.uniform(0.03, 0.09)])
        mask |= _ellipse(shape, (middle, at), size)
    return boundaries, _FLUID, mask


def _bright_foci(boundaries, shape, rng):
    """Some bright spots between the nerve fibres and the photoreceptors."""
    mask = np.zeros(shape, bool)
    for _ in range(rng.randint(3, 8)):
        at = rng.randint(0.05 * shape[1], 0.95 * shape[1])
        row = rng.uniform(boundaries[1, at], boundaries[6, at])
        mask |= _ellipse(shape, (row, at), shape[0] * rng.uniform(0.014, 0.03, size=2))
    return boundaries, _FOCUS, mask


def _ellipse(shape, centre, half_axes):
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance = ((y - centre[0]) / half_axes[0]) ** 2
    return distance + ((x - centre[1]) / half_axes[1]) ** 2 <= 1
