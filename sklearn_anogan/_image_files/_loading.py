# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Which files become images, which are left out, and what is said of these."""

from collections import Counter

from ._folders import find_files
from ._images import Decoder, ImageFiles
from ._pillow import large_allowed
from ._pixels import NoImageError
from ._readers import SUFFIXES, has_image_name, in_words, open_file

#: Reason to leave out what this library has drawn.
_OWN_MAP = "a map of this library"

#: How many files a message names.
_MOST_NAMED = 3


def load(folder, size, color, on_error):
    """The images of `sklearn_anogan.datasets.load_images`, and what to warn of.

    Returns
    -------
    images : ImageFiles
    warning : str or None
    """
    paths, left_out, searched = find_files(folder, on_error)
    decoder = Decoder(size, color == "grey")
    with large_allowed():
        files, problem = _opened(paths, decoder, on_error, left_out, searched)
    for choose in (_refuse_bands, _refuse_minority):
        for file, reason, message in choose(files, color):
            error = ValueError(f"{file.path} {message}")
            if on_error == "raise":
                raise error
            problem = problem or error
            left_out[file.path] = reason
            decoder.drop(file.path)
        files = [file for file in files if file.path not in left_out]
    if not files:
        raise _nothing(folder, left_out, searched, problem)
    looks_like_image = {
        path: reason
        for path, reason in left_out.items()
        if has_image_name(path) and reason != _OWN_MAP
    }
    images = ImageFiles(files, decoder, color, left_out)
    return images, _in_words(looks_like_image, searched)


def _opened(paths, decoder, on_error, left_out, searched):
    """The files that are images, and the first error of one that should be."""
    files, problem = [], None
    for path in paths:
        is_meant = searched is None or has_image_name(path)
        try:
            file = open_file(path, is_meant)
            is_own = file.header.is_own and searched is not None
            if on_error == "skip" and not is_own:
                for page in range(len(file.header.places)):
                    decoder.image(file, page)
        except Exception as error:
            if on_error == "raise" and (is_meant or isinstance(error, ImportError)):
                raise
            if is_meant:
                problem = problem or error
            left_out[path] = _reason(error)
            decoder.drop(path)
            continue
        if is_own:
            left_out[path] = _OWN_MAP
        else:
            files.append(file)
    return files, problem


def _reason(error):
    if isinstance(error, NoImageError):
        return str(error)
    return f"cannot be read: {in_words(error.__cause__ or error)[:300]}"


def _refuse_bands(files, color):
    """Files with bands that are neither grey nor colours, where these are wanted.

    Yields
    ------
    file : ImageFile
    reason, message : str
        Why the file is left out, and what an error says after the path of the file.
    """
    for file in files:
        n_bands = file.header.n_bands
        if color != "auto" and n_bands not in (1, 3):
            yield (
                file,
                f"{n_bands} bands, which color={color!r} cannot show",
                f"has {n_bands} bands, which color={color!r} cannot show. Use "
                "color='auto' to keep all bands.",
            )


def _refuse_minority(files, color):
    """Files whose values or bands are not like those of most files.

    Yields what `_refuse_bands` does.
    """
    counts = Counter(map(_kind, files))
    if len(counts) < 2:
        return
    usual = max(counts, key=counts.get)
    example = next(file for file in files if _kind(file) == usual)
    for file in files:
        if _kind(file) == usual:
            continue
        dtype, n_bands = file.header.dtype, file.header.n_bands
        usual_dtype, usual_bands = example.header.dtype, example.header.n_bands
        if dtype != usual_dtype:
            yield (
                file,
                f"type {dtype}, most files {usual_dtype}",
                f"has values of type {dtype}, and {example.path} of type "
                f"{usual_dtype}: their scales differ. Load the files of one type, or "
                "convert them.",
            )
        else:
            yield (
                file,
                f"bands: {n_bands}, most files {usual_bands}",
                f"has {_in_bands(n_bands)}, and {example.path} has "
                f"{_in_bands(usual_bands)}. Load the files of one kind.",
            )


def _in_bands(n_bands):
    return "1 band" if n_bands == 1 else f"{n_bands} bands"


def _kind(file):
    """Files of one kind can be loaded together: grey becomes colours."""
    n_bands = file.header.n_bands
    return file.header.dtype, 3 if n_bands == 1 else n_bands


def _nothing(folder, left_out, searched, problem):
    """The error if no image is left."""
    if problem is not None:
        return problem
    if searched is None:
        return FileNotFoundError(f"There is no image in {folder!r}.")
    found = _in_words(left_out, searched)
    return FileNotFoundError(
        f"There is no image in {str(searched)!r}. "
        + (f"{found}. " if found else "")
        + f"The names of images end with {', '.join(sorted(SUFFIXES))}."
    )


def _in_words(left_out, searched):
    """A sentence that names the first files, and how many there are."""
    if not left_out:
        return None
    named = [
        f"{path.relative_to(searched) if searched else path} ({reason})"
        for path, reason in sorted(left_out.items())[:_MOST_NAMED]
    ]
    n = len(left_out)
    return (
        f"{n} file{'s' if n > 1 else ''} left out: {', '.join(named)}"
        f"{', ...' if n > _MOST_NAMED else ''}"
    )
