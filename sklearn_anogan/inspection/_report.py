# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""One HTML file that shows what a detector finds in images, and what it has learned."""

from __future__ import annotations

import base64
import io
import platform
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING

import jinja2
import numpy as np
import sklearn
import skorch
import torch
from sklearn.utils import Bunch, check_scalar
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import _num_samples

from .. import __version__
from .._files import check_writable, is_one_of, unusable, write_whole
from .._types import ImagesLike
from ._anomalies import ScoreHistogramDisplay
from ._drawing import (
    draw_scale,
    fitted_to,
    in_colors,
    marked,
    own_limits,
    to_array,
    to_pictures,
)
from ._examining import (
    Heat,
    check_has_maps,
    check_level,
    examine,
    has_rows,
    left_out_of,
    names_of,
)
from ._learning import TrainingDisplay

if TYPE_CHECKING:
    from .._detector import AnoGANDetector
    from .._patches import PatchDetector

#: Pixels along the longer side of an image in a report, at least and at most.
_LEAST_SIDE, _MOST_SIDE = 192, 512

#: Name of this library in reports.
GENERATOR = "sklearn-anogan"

#: Rows of the table of all images, generated images, and features named for a row.
_MOST_ROWS, _N_SAMPLES, _N_FEATURES = 1000, 16, 3


def report(
    detector: AnoGANDetector | PatchDetector,
    X: ImagesLike,
    path: str | PathLike[str],
    *,
    n_images: int = 60,
    names: Sequence[str] | None = None,
    title: str = "Anomalies",
    level: float | None = None,
) -> Bunch:
    """Write one HTML file with what a detector finds in images, and has learned.

    The file shows the images by p-value, the most abnormal first, with their maps;
    the histogram of scores with the threshold; files that `load_images` has left out;
    images that the generator draws, and how the training went; parameters and
    versions. It needs no other file and no network. Of rows of numbers, it names the
    features that deviate most.

    Parameters
    ----------
    detector : AnoGANDetector or PatchDetector
        Fitted.

    X : array-like, tensor or list of n images, or of n rows
        In any layout that `detector` takes, for example of
        :func:`~sklearn_anogan.datasets.load_images`. Read block by block.

    path : str or path
        File to write. A file that is there already is replaced once the new one is
        complete; files of X never are.

    n_images : int, default=60
        Number of images to show, at least 1.

    names : list of n str, default=None
        Names of the images. None takes the names of the files that `load_images` has
        read, the index of a data frame, or numbers from 0 on.

    title : str, default="Anomalies"
        Title of the report.

    level : float in (0, 1], default=None
        Mark the images with a p-value of at most this, for example 0.01: about this
        share of normal images. None marks as `predict` does.

    Returns
    -------
    found : Bunch
        For each image of X, as ndarrays of shape (n,): ``scores`` (the lower, the more
        abnormal), ``p_values``, and ``labels``, 1 for normal and -1 for anomalous
        images, those that are marked.

    Raises
    ------
    TypeError
        If the detector has no maps. Of a pipeline or a search, pass the detector.
    ValueError
        If X cannot be scored, if there are not n `names`, if `path` is a file of X, if
        no p-value can be as small as `level`, or if a parameter that scores or p-values
        depend on has been set since `fit`.
    OSError
        If the file cannot be written.
    ImportError
        If matplotlib is not installed.

    See Also
    --------
    AnomalyMapDisplay : Images and maps as a figure.

    Notes
    -----
    Contours surround what lies above ``detector.map_threshold()``, as at most 1 % of
    the pixels of held-out images do. Colours tell how far a map lies above the median
    of these pixels: they begin at half of the threshold's distance and end at ten times
    as much. Images of more than 512 pixels along a side are shrunk.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_anogan import AnoGANDetector
    >>> from sklearn_anogan.inspection import report
    >>> images = load_digits().images
    >>> damaged = images[60:63].copy()
    >>> damaged[0, 3:6, 3:6] = 50  # brighter than any digit
    >>> detector = AnoGANDetector(n_filters=8, max_epochs=2, random_state=0)
    >>> detector = detector.fit(images[:60])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = report(detector, damaged, Path(folder, "report.html"))
    ...     text = Path(folder, "report.html").read_text(encoding="utf-8")
    >>> int(found.labels[0]), "<h1>Anomalies</h1>" in text
    (-1, True)
    """
    check_matplotlib_support("report")
    check_has_maps(detector)
    check_scalar(n_images, "n_images", Integral, min_val=1)
    if level is not None:
        check_scalar(
            level, "level", Real, min_val=0, max_val=1, include_boundaries="right"
        )
        check_level(detector, level)
    check_writable("path", path)
    if is_one_of(path, getattr(X, "paths", ())):
        raise ValueError(f"path is a file of X: {path}. Choose another one.")
    n = _num_samples(X)
    names = names_of(X) if names is None else [str(name) for name in names]
    if len(names) != n:
        raise ValueError(f"X has {n} images, but there are {len(names)} names.")
    found, cards = gather(detector, examine(detector, X, level), n_images)
    others = left_out_of(X)
    write_report(path, detector, found, cards, names, title, level, others=others)
    return Bunch(**{name: found[name] for name in ("scores", "p_values", "labels")})


def gather(detector, blocks, n_shown):
    """Collect what `examine` yields, and what a report shows of some images.

    Parameters
    ----------
    detector : AnoGANDetector or PatchDetector
    blocks : iterable of Bunch
    n_shown : int
        Number of images to show: the most abnormal ones.

    Returns
    -------
    found : Bunch
        ``index`` (numbers of the images), ``scores``, ``p_values`` and ``labels``,
        ndarrays of shape (n,).
    cards : list of `n_shown` Bunch
        The number of an image, score, p-value, label, and what is shown of the image.
    """
    heat = None if has_rows(detector) else Heat(detector)
    names = "index", "scores", "p_values", "labels"
    numbers, cards = [], []
    for block in blocks:
        numbers.append([block[name] for name in names])
        if n_shown:
            of_each = *numbers[-1], block.pictures, block.maps
            cards += [
                Bunch(
                    number=i,
                    score=score,
                    p=p,
                    is_marked=label == -1,
                    **_shown(picture, one, heat),
                )
                for i, score, p, label, picture, one in zip(*of_each, strict=True)
            ]
        cards = sorted(cards, key=lambda card: (card.p, card.score))[:n_shown]
    columns = map(np.concatenate, zip(*numbers, strict=True))
    return Bunch(**dict(zip(names, columns, strict=True))), cards


def write_report(
    path, detector, found, cards, names, title, level=None, *, model=None,
    broken=(), others=(),
):  # fmt: skip
    """Write what `gather` has collected; whole, or not at all.

    Parameters
    ----------
    path : path-like
    detector : AnoGANDetector or PatchDetector
    found, cards : Bunch, list of Bunch
        As `gather` answers.
    names : list of str
        Of all images of X.
    title : str
    level : float or None
        The p-value at which images are marked; None for the threshold of scores.
    model : str or None
        Name of the detector's file.
    broken, others : sequence of (name, reason)
        Files that should have been judged, and those that are no images.
    """
    page = _page(detector, found, names, cards, level)
    page |= {"title": str(title), "model": model}
    page |= {"broken": [*broken], "others": [*others]}
    template = files(__package__).joinpath("report.html.jinja")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    text = environment.from_string(template.read_text("utf-8")).render(page)
    try:
        # Names of files may hold what is no text.
        write_whole(path, [text.encode("utf-8", errors="backslashreplace")])
    except OSError as error:
        raise unusable("path", path, error) from error


def _shown(picture, one, heat):
    """What a report keeps of an image: pixels, heat of the map, what is marked."""
    if heat is None:
        return {"deviations": one}
    colors, mask = heat.of(one)
    size = _LEAST_SIDE, _MOST_SIDE
    small = fitted_to(picture, *size)
    return {
        "picture": small if small.dtype == np.uint8 else small.astype(np.float32),
        "limits": own_limits(picture),
        "heat": fitted_to(colors, *size, merge=np.max),
        "mask": fitted_to(mask, *size, merge=np.any),
    }


def _page(detector, found, names, cards, level):
    """What the template is filled with, by name."""
    what = "rows" if has_rows(detector) else "images"
    known, smallest = detector.calibration_, detector.calibration_.smallest_p_value
    # One odd image does not make all others black.
    limits = np.median([card.get("limits", (0, 1)) for card in cards], axis=0)
    is_threshold_known = detector.contamination == "auto" and level is None
    return {
        "generator": GENERATOR,
        "kind": type(detector).__name__,
        "date": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "what": what,
        "n": len(found.scores),
        "n_marked": int((found.labels == -1).sum()),
        "n_marked_shown": sum(bool(card.is_marked) for card in cards),
        "level": level,
        "subject": f"The {'threshold and the ' if is_threshold_known else ''}p-values",
        "n_known": known.n_groups,
        "has_groups": known.has_groups,
        "is_held_out": known.is_held_out,
        "smallest": f"{smallest:.3g}",
        "threshold": f"{detector.offset_:.4g}",
        "scale": None if what == "rows" else _scale(Heat(detector)),
        "cards": [_card(card, names, detector, smallest, limits) for card in cards],
        "histogram": _histogram(found, detector, what, level),
        "rows": _table(found, names),
        "has_all_rows": len(found.scores) <= _MOST_ROWS,
        "learned": _learned(detector, limits, what),
        "parameters": [*detector.get_params().items()],
        "versions": _versions(),
    }


def _card(card, names, detector, smallest, limits):
    """What the template shows of an image or row."""
    shown = {
        "name": names[card.number],
        "is_marked": card.is_marked,
        "p": f"{card.p:.3g}",
        "is_smallest": card.p <= smallest * (1 + 1e-9),
        "score": f"{card.score:.3g}",
    }
    if "deviations" in card:
        return shown | {"image": None, "deviations": _largest(card, detector)}
    colors = in_colors(card.picture, *limits)
    return shown | {
        "image": _picture_data(colors),
        "map": _picture_data(marked(colors, card.heat, card.mask)),
        "deviations": None,
    }


def _largest(card, detector):
    """The features of a row that deviate most, and by how much."""
    features = getattr(detector, "feature_names_in_", None)
    return ", ".join(
        f"{i if features is None else features[i]} ({card.deviations[i]:.3g})"
        for i in np.argsort(card.deviations)[::-1][:_N_FEATURES]
    )


def _scale(heat):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.9), layout="constrained")
    draw_scale(figure.subplots(), heat)
    return _figure_data(figure)


def _histogram(found, detector, what, level):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    threshold = detector.offset_ if level is None else None
    display = ScoreHistogramDisplay(found.scores, threshold=threshold)
    display.plot(figure.subplots()).ax_.set_ylabel(what)
    return _figure_data(figure)


def _table(found, names):
    order = np.lexsort((found.scores, found.p_values))[:_MOST_ROWS]
    return [
        {
            "name": names[found.index[i]],
            "p": f"{found.p_values[i]:.3g}",
            "score": f"{found.scores[i]:.4g}",
            "is_marked": found.labels[i] == -1,
        }
        for i in order
    ]


def _learned(detector, limits, what):
    """Generated images and the course of the training; None without a generator."""
    if not hasattr(detector, "sample"):
        return None  # a PatchDetector, whose maps come from no generator
    samples = []
    if what == "images":
        images = detector.sample(_N_SAMPLES, random_state=0)
        if images.ndim == 2:  # flattened
            images = to_array(images).reshape(len(images), *detector.image_shape_)
        size = _LEAST_SIDE // 2, _LEAST_SIDE
        samples = [
            _picture_data(in_colors(fitted_to(each, *size), *limits))
            for each in to_pictures(images)
        ]
    return {
        "samples": samples,
        "diversity": f"{detector.history_[-1]['diversity']:.2f}",
        "course": _course(detector.history_),
    }


def _course(history):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3), layout="constrained")
    TrainingDisplay(history).plot(figure.subplots(1, 3))
    return _figure_data(figure)


def _versions():
    versions = {
        "Python": platform.python_version(),
        "sklearn-anogan": __version__,
        "scikit-learn": sklearn.__version__,
        "torch": torch.__version__,
        "skorch": skorch.__version__,
        "numpy": np.__version__,
    }
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _picture_data(colors):
    """An image of uint8 (height, width, 3) as text; PNG or JPEG, the shorter one."""
    from PIL import Image

    image = Image.fromarray(colors)
    kinds = {}
    for kind, options in (("png", {}), ("jpeg", {"quality": 90, "subsampling": 0})):
        file = io.BytesIO()
        image.save(file, kind, **options)
        kinds[kind] = file.getvalue()
    kind = min(kinds, key=lambda kind: len(kinds[kind]))
    return _data(kind, kinds[kind])


def _figure_data(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return _data("png", file.getvalue())


def _data(kind, content):
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
