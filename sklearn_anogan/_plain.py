# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Checks of what is read from a file that nobody has to trust.

A record that can be saved has a method ``to_plain``, which answers with a dictionary
for JSON and a dictionary of tensors, and a class method ``from_plain``, which takes
both. ``from_plain`` takes every tensor out of the dictionary, so that the reader sees
whether any is left over.
"""

import numpy as np
import torch


def take(tensors, name, shape):
    """Take out a finite float64 tensor; None in the shape allows any length but 0."""
    tensor = tensors.pop(name)
    expect(f"the type of {name}", tensor.dtype, torch.float64)
    wanted = tuple(
        length if length is not None else max(1, found)
        for length, found in zip(shape, tensor.shape, strict=True)
    )
    expect(f"the shape of {name}", tuple(tensor.shape), wanted)
    check_finite(name, tensor)
    return tensor


def take_under(tensors, prefix):
    """Take out all tensors whose names begin with the prefix, and drop the prefix."""
    return {
        name.removeprefix(prefix): tensors.pop(name)
        for name in list(tensors)
        if name.startswith(prefix)
    }


def check_finite(name, tensor):
    """Refuse NaN and infinity."""
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise ValueError(f"{name} has NaN or infinity")


def expect(what, found, wanted):
    """Refuse any value but the wanted one."""
    if found != wanted:
        raise ValueError(f"{what} should be {wanted}, but is {found}")


def count(value, least=1):
    """A whole number of at least ``least``."""
    if type(value) is not int or value < least:
        raise ValueError(f"{value!r} should be a whole number of at least {least}")
    return value


def number(value):
    """A finite number."""
    if type(value) not in (int, float) or not np.isfinite(value):
        raise ValueError(f"{value!r} should be a finite number")
    return float(value)


def truth(value):
    """True or False."""
    if type(value) is not bool:
        raise ValueError(f"{value!r} should be true or false")
    return value


def for_json(value):
    """A history for JSON, without the values that JSON cannot hold."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return [for_json(item) for item in value]
    if isinstance(value, dict):
        plain = {str(name): for_json(item) for name, item in value.items()}
        return {name: item for name, item in plain.items() if item is not None}
    return value if isinstance(value, bool | int | float | str) else None
