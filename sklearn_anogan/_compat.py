# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What scikit-learn lacks: in older versions, and types of its decorators."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sklearn.base import _fit_context
from sklearn.utils._param_validation import validate_params as _validate_params

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin
    from sklearn.callback import with_callbacks as _with_callbacks
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in for scikit-learn's."""

    def _with_callbacks(method):
        """Stands in for scikit-learn's."""
        return method


Function = TypeVar("Function", bound=Callable[..., Any])


class KeepsTypes(Protocol):
    """A decorator whose answer has the type of what is decorated."""

    def __call__(self, function: Function, /) -> Function: ...


# Without these, methods would lose their types together with the decorators.
with_callbacks: KeepsTypes = _with_callbacks
checked_fit: Callable[..., KeepsTypes] = _fit_context
validate_params: Callable[..., KeepsTypes] = _validate_params


def fit_context(estimator, of_fit):
    """The context that tells scikit-learn's callbacks of a fit, or None before 1.9.

    Parameters
    ----------
    estimator : estimator
    of_fit : dict
        ``estimator``, ``X`` and ``y``, for the callbacks.
    """
    if not hasattr(estimator, "set_callbacks"):
        return None
    context = estimator._init_callback_context(max_subtasks=None)
    context.call_on_fit_task_begin(**of_fit)
    return context
