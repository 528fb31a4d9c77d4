# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Results of a training kept on disk, so that it need not be done again."""

import hashlib
import pickle
from pathlib import Path

import joblib
from filelock import FileLock
from sklearn.utils.validation import check_memory

from ._files import unusable


class NotKept(Exception):  # noqa: N818 (it is no error)
    """Raised by a training whose answer, its argument, is not to be kept."""


def remember(memory, train, key):
    """What ``train()`` returned when it was last called with this key.

    Of several processes that ask at the same time, one trains and the others wait for
    it. What cannot be read any more is trained anew.

    Parameters
    ----------
    memory : str, Path, joblib.Memory or None
        Where to keep it; None does not.
    train : callable
        Without arguments; its answer has to be picklable. It may raise `NotKept`.
    key : dict
        All that the answer depends on, in strings, numbers and the like.

    Returns
    -------
    answer : object
        A copy of its own.
    """
    try:
        memory = check_memory(str(memory) if isinstance(memory, Path) else memory)
    except OSError as error:
        raise unusable("memory", memory, error) from error
    try:
        if getattr(memory, "location", None) is None:
            return train()
        return _from_disk(memory, train, key)
    except NotKept as result:
        return result.args[0]


def _from_disk(memory, train, key):
    lock = Path(memory.location, "sklearn_anogan", f"{joblib.hash(key)}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable("memory", memory.location, error) from error
    cached = memory.cache(_pickled, ignore=["train"])
    with FileLock(lock):
        kept = cached(key, train)
        if not _is_whole(kept):
            cached.call_and_shelve(key, train).clear()
            kept = cached(key, train)
    return pickle.loads(kept[1])


def _pickled(key, train):
    """The answer as bytes, with their digest: joblib does not see a flipped bit."""
    content = pickle.dumps(train())
    return _digest(content), content


def _is_whole(kept):
    try:
        digest, content = kept
        return digest == _digest(content)
    except (TypeError, ValueError):
        return False


def _digest(content):
    return hashlib.sha256(content).hexdigest()
