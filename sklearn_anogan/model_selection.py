# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Cross-validation and scorers for detectors that train on normal samples only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    make_scorer,
    matthews_corrcoef,
    precision_score,
    recall_score,
    roc_auc_score,
)
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils.metadata_routing import MetadataRequest, get_routing_for_object
from sklearn.utils.validation import column_or_1d

from ._holding_out import is_missing
from ._types import ImagesLike
from ._warnings import warn_user

__all__ = ["InlierSplit", "make_outlier_scorer"]

_Metric: TypeAlias = Literal[
    "roc_auc",
    "average_precision",
    "f1",
    "precision",
    "recall",
    "balanced_accuracy",
    "matthews_corrcoef",
]

#: Name of a metric -> (function, detector method whose output it takes).
_METRICS = {
    "roc_auc": (roc_auc_score, "decision_function"),
    "average_precision": (average_precision_score, "decision_function"),
    "f1": (f1_score, "predict"),
    "precision": (precision_score, "predict"),
    "recall": (recall_score, "predict"),
    "balanced_accuracy": (balanced_accuracy_score, "predict"),
    "matthews_corrcoef": (matthews_corrcoef, "predict"),
}


class _Splitter(Protocol):
    """Makes folds, as scikit-learn's do."""

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterable[tuple[Any, Any]]: ...

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int: ...


class InlierSplit(BaseCrossValidator):
    """Cross-validation that trains on normal samples and tests on both kinds.

    An outlier detector takes all training samples as normal, so anomalies in a training
    fold spoil it. This splitter removes the anomalies from the training folds that `cv`
    makes. It raises an error if a test fold lacks normal samples or anomalies, because
    a ranking can only be tested on both kinds.

    Parameters
    ----------
    cv : int, splitter or iterable of (train, test), default=5
        The splitter that makes the folds. An int is the number of folds of
        :class:`~sklearn.model_selection.StratifiedKFold`, whose classes are the normal
        samples and the anomalies.

    anomaly_label : int, str or bool, default=-1
        Label of the anomalies in `y`. All other labels mean normal samples.

    See Also
    --------
    make_outlier_scorer : Scorers that know which label is the anomaly.

    Notes
    -----
    A search with ``refit=True`` fits the best parameters to all of `X`, anomalies
    included. Use ``refit=False`` and fit the best parameters to the normal samples, as
    the example does.

    Successive halving starts with few samples of each fold, perhaps without anomalies.
    Choose another resource, such as ``resource="max_epochs"``, or set ``min_resources``
    high enough. Turn off training scores by ``return_train_score=False``: training
    folds have no anomalies, so their scores are undefined.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.base import clone
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn_anogan.model_selection import InlierSplit, make_outlier_scorer
    >>> rng = np.random.RandomState(0)
    >>> X = np.r_[rng.normal(size=(90, 2)), rng.uniform(-6, 6, size=(10, 2))]
    >>> y = np.r_[np.ones(90), -np.ones(10)]
    >>> search = GridSearchCV(
    ...     IsolationForest(random_state=0),
    ...     {"max_features": [1, 2]},
    ...     cv=InlierSplit(3),
    ...     scoring=make_outlier_scorer("roc_auc"),
    ...     refit=False,
    ... ).fit(X, y)
    >>> best = clone(search.estimator).set_params(**search.best_params_)
    >>> best.fit(X[y == 1]).predict([[0, 0], [6, 6]])
    array([ 1, -1])
    """

    def __init__(
        self,
        cv: int | _Splitter | Iterable[tuple[ArrayLike, ArrayLike]] = 5,
        *,
        anomaly_label: int | str | bool = -1,
    ) -> None:
        # An iterator can be read only once; check_cv keeps its folds.
        is_iterable = isinstance(cv, Iterable) and not hasattr(cv, "split")
        self.cv = check_cv(cv) if is_iterable else cv
        self.anomaly_label = anomaly_label

    def split(
        self, X: ImagesLike, y: ArrayLike, groups: ArrayLike | None = None
    ) -> Iterator[tuple[NDArray[np.int_], NDArray[np.int_]]]:
        """Make the folds.

        Parameters
        ----------
        X : array-like of n samples
        y : array-like of shape (n,)
            Labels; `anomaly_label` marks the anomalies.
        groups : array-like of shape (n,), default=None
            Groups of the samples, passed on to `cv`.

        Yields
        ------
        train : ndarray of int
            Indices of the training samples, all normal.
        test : ndarray of int
            Indices of the test samples, of both kinds.

        Raises
        ------
        ValueError
            If `y` or the test samples of a fold are all of one kind, or if a fold has
            no normal sample to train on.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_anogan.model_selection import InlierSplit
        >>> X, y = np.zeros((6, 1)), [1, 1, 1, 1, -1, -1]
        >>> for train, test in InlierSplit(2).split(X, y):
        ...     print(train, test)
        [2 3] [0 1 4]
        [0 1] [2 3 5]
        """
        is_anomaly = _tell_anomalies(y, self.anomaly_label)
        if is_anomaly.all() or not is_anomaly.any():
            raise ValueError(
                f"y has {'only' if is_anomaly.any() else 'no'} anomalies: both kinds "
                "are needed to test on."
            )
        folds = self._splitter(is_anomaly).split(X, is_anomaly, groups)
        for i, (train, test) in enumerate(folds):
            # Some splitters yield boolean masks, others indices.
            train, test = (np.arange(len(is_anomaly))[each] for each in (train, test))
            train = train[~is_anomaly[train]]
            n_anomalies = np.count_nonzero(is_anomaly[test])
            if not len(train):
                problem = "no normal sample to train on"
            elif n_anomalies in (0, len(test)):
                problem = (
                    f"{len(test) - n_anomalies} normal samples and {n_anomalies} "
                    "anomalies to test on; both kinds are needed"
                )
            else:
                yield train, test
                continue
            raise ValueError(
                f"Fold {i} of {self.cv!r} has {problem}. Use fewer folds, or a "
                "splitter that shuffles or stratifies."
            )

    def get_n_splits(
        self,
        X: ImagesLike | None = None,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : array-like, default=None
            As in `split`. Some splitters need them to count the folds.

        Returns
        -------
        n_splits : int

        Examples
        --------
        >>> from sklearn.model_selection import LeaveOneGroupOut
        >>> from sklearn_anogan.model_selection import InlierSplit
        >>> InlierSplit(3).get_n_splits()
        3
        >>> InlierSplit(LeaveOneGroupOut()).get_n_splits(groups=["a", "a", "b", "b"])
        2
        """
        return self._splitter([0, 1]).get_n_splits(X, y, groups)

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the metadata that `cv` requests, such as groups.

        Returns
        -------
        routing : MetadataRequest
        """
        return get_routing_for_object(self._splitter([0, 1]))

    def _splitter(self, y):
        return check_cv(self.cv, y, classifier=True)


def make_outlier_scorer(
    metric: _Metric | Callable[..., float] = "roc_auc",
    *,
    anomaly_label: int | str | bool = -1,
    response_method: Literal["decision_function", "predict"] | None = None,
    **kwargs: Any,
) -> Callable[..., float]:
    """Make a scorer for outlier detectors, with the anomalies as the positive class.

    Metrics of scikit-learn take the larger label as the positive class. If 1 marks the
    anomalies in `y`, ``scoring="roc_auc"`` silently reverses a detector's ranking. If
    -1 marks them, ``"average_precision"`` rates how well the many normal samples are
    found. This scorer is told which label is the anomaly.

    Parameters
    ----------
    metric : str or callable, default="roc_auc"
        "roc_auc" and "average_precision" rate the ranking by `decision_function`. "f1",
        "precision", "recall", "balanced_accuracy" and "matthews_corrcoef" rate the
        labels of `predict`. A function is called as ``metric(is_anomaly, answer)``, and
        higher values are better. Both arrays have the shape (n,): `is_anomaly` holds 0
        and 1; `answer` is higher for more abnormal samples, or 0 and 1 for labels.

    anomaly_label : int, str or bool, default=-1
        Label of the anomalies in `y`. All other labels mean normal samples.

    response_method : {"decision_function", "predict"}, default=None
        The detector's method that makes `answer`. With None, a named metric uses the
        method given above, and a function gets "decision_function".

    **kwargs
        Further arguments of the metric. With ``max_fpr=0.1``, "roc_auc" is the area
        under the curve up to a false positive rate of 0.1, scaled to .5 for guesses and
        1 for a perfect ranking (McClish 1989, :doi:`10.1177/0272989X8900900307`).

    Returns
    -------
    scorer : callable
        ``scorer(detector, X, y)`` for any outlier detector of scikit-learn, and for the
        parameter ``scoring`` of searches and cross-validations. If all samples are of
        one kind, the scorer warns and returns NaN.

    Raises
    ------
    ValueError
        If `metric` or `response_method` is unknown. The scorer raises it if `y` has
        several labels, none of which is `anomaly_label`.

    See Also
    --------
    InlierSplit : Folds that train on normal samples only.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from sklearn_anogan.model_selection import make_outlier_scorer
    >>> X = np.random.RandomState(0).normal(size=(100, 2))
    >>> detector = IsolationForest(random_state=0).fit(X)
    >>> scorer = make_outlier_scorer("roc_auc", anomaly_label="defect")
    >>> X_new, y_new = [[0, 0], [1, 0], [9, 9]], ["good", "good", "defect"]
    >>> float(scorer(detector, X_new, y_new))
    1.0
    """
    if callable(metric):
        function, known = metric, "decision_function"
    elif isinstance(metric, str) and metric in _METRICS:
        function, known = _METRICS[metric]
    else:
        raise ValueError(
            f"There is no metric {metric!r}. Use one of {', '.join(_METRICS)}, or a "
            "function."
        )
    if response_method not in (None, "decision_function", "predict"):
        raise ValueError(
            f"response_method={response_method!r} must be 'decision_function', "
            "'predict' or None."
        )
    method = response_method or known
    return make_scorer(
        _AnomaliesPositive(function, anomaly_label, method == "predict"),
        response_method=method,
        **kwargs,
    )


class _AnomaliesPositive:
    """A metric of a detector's answers, with the anomalies as the positive class."""

    def __init__(self, metric, anomaly_label, of_labels):
        self.metric = metric
        self.anomaly_label = anomaly_label
        self.of_labels = of_labels

    def __call__(self, y, answer, **kwargs):
        is_anomaly = _tell_anomalies(y, self.anomaly_label).astype(int)
        if is_anomaly.min() == is_anomaly.max():
            warn_user(
                f"y has one kind of samples only: {self.__name__} is not defined.",
                UndefinedMetricWarning,
            )
            return np.nan
        answer = (answer == -1).astype(int) if self.of_labels else -answer
        return self.metric(is_anomaly, answer, **kwargs)

    @property
    def __name__(self):  # shown by the scorer
        return f"{self.metric.__name__}, anomaly_label={self.anomaly_label!r}"


def _tell_anomalies(y, anomaly_label):
    """Mask of the anomalies. Several labels without `anomaly_label` are an error."""
    if y is None:
        raise ValueError("y is None, but has to tell which samples are anomalies.")
    if not np.isscalar(anomaly_label):
        raise ValueError(
            f"anomaly_label={anomaly_label!r} must be a single label: give all kinds "
            "of anomalies the same one."
        )
    y = column_or_1d(y)
    n_missing = sum(is_missing(label) for label in y.tolist())
    if n_missing:
        raise ValueError(
            f"{n_missing} labels of y are missing. Leave those samples out."
        )
    is_anomaly = y == anomaly_label
    labels = list(dict.fromkeys(y.tolist()))  # may not be sortable
    if len(labels) > 1 and not is_anomaly.any():
        raise ValueError(
            f"y has no anomalies: anomaly_label={anomaly_label!r} is none of its "
            f"labels, which are {', '.join(map(repr, labels))}."
        )
    return is_anomaly
