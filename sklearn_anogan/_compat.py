# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""What older versions of scikit-learn lack."""

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin
    from sklearn.callback import with_callbacks as with_callbacks
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:
        """Stands in for scikit-learn's."""

    def with_callbacks(method):
        """Stands in for scikit-learn's."""
        return method


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
