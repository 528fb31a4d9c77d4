# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Results of a training kept on disk, so that it need not be done again."""

import hashlib
import pickle
from pathlib import Path

import joblib
from filelock import FileLock
from sklearn.utils.validation import check_memory

from .._files import unusable


def remember(memory, train, key):
    """The result of ``train()``, from the last call with this key if there was one.

    If several processes ask at the same time, one trains and the others wait for it. A
    result that cannot be read any more is trained anew.

    Parameters
    ----------
    memory : str, Path, joblib.Memory or None
        Where results are kept; None keeps none.
    train : callable
        Without arguments. It answers with the result, which has to be picklable, and
        whether to keep it.
    key : dict
        All that the result depends on, in strings, numbers and the like.

    Returns
    -------
    result : object
        A copy of its own.
    is_kept : bool
        Whether the result is to be kept.
    """
    try:
        memory = check_memory(str(memory) if isinstance(memory, Path) else memory)
    except OSError as error:
        raise unusable("memory", memory, error) from error
    if getattr(memory, "location", None) is None:
        return train()
    lock = Path(memory.location, "sklearn_anogan", f"{joblib.hash(key)}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable("memory", memory.location, error) from error
    cached = memory.cache(_pickled, ignore=["result"])
    with FileLock(lock):
        result = _read(cached, key)
        if result is not None:
            return result, True
        result, is_to_keep = train()
        if is_to_keep:
            cached(key, result)
        return result, is_to_keep


def _read(cached, key):
    """The result that is kept for this key, or None; what is damaged is removed."""
    if not cached.check_call_in_cache(key, None):
        return None
    kept = cached.call_and_shelve(key, None)
    result = None
    try:
        digest, content = kept.get()
        if digest == _digest(content):
            result = pickle.loads(content)
    except Exception:  # a damaged file may provoke any
        pass
    if result is None:  # as when an older joblib has called the function after all
        kept.clear()
    return result


def _pickled(key, result):
    """The result as bytes, with a digest: joblib does not see a flipped bit."""
    content = pickle.dumps(result)
    return _digest(content), content


def _digest(content):
    return hashlib.sha256(content).hexdigest()
