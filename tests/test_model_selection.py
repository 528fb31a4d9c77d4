import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import SGDOneClassSVM
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    LeaveOneOut,
    RandomizedSearchCV,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_score,
    cross_validate,
)
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from sklearn_anogan import AnoGANDetector
from sklearn_anogan.model_selection import InlierSplit, make_outlier_scorer


@pytest.fixture
def data(rng):
    """Sorted as files often are: 80 normal samples, then 20 anomalies, marked by 1."""
    X = np.r_[rng.normal(size=(80, 2)), rng.normal(size=(20, 2)) + 3]
    return X, np.repeat([0, 1], [80, 20])


def test_integer_cv_springs_the_trap_of_one_class(data):
    X, y = data
    forest = IsolationForest(random_state=0)
    with pytest.warns(UndefinedMetricWarning, match="Only one class"):
        scores = cross_val_score(forest, X, y, cv=5, scoring="roc_auc")
    assert np.isnan(scores).any()
    cv, scorer = InlierSplit(5, anomaly_label=1), make_outlier_scorer(anomaly_label=1)
    scores = cross_val_score(forest, X, y, cv=cv, scoring=scorer)
    assert (scores > 0.9).all()


def test_stratified_folds_spring_the_trap_of_anomalies_to_train_on(data):
    X, y = data
    for train, _ in StratifiedKFold(4).split(X, y):
        assert y[train].sum() == 15
    tested = []
    for train, test in InlierSplit(4, anomaly_label=1).split(X, y):
        assert not y[train].any()
        assert len(train) == 60
        assert y[test].sum() == 5
        assert not set(train) & set(test)
        tested.extend(test)
    assert sorted(tested) == list(range(100))


def test_roc_auc_springs_the_trap_of_inversion(data):
    X, y = data
    forest = IsolationForest(random_state=0)
    folds = InlierSplit(4, anomaly_label=1)
    inverted = cross_val_score(forest, X, y, cv=folds, scoring="roc_auc")
    scorer = make_outlier_scorer("roc_auc", anomaly_label=1)
    correct = cross_val_score(forest, X, y, cv=folds, scoring=scorer)
    assert inverted.mean() < 0.1
    np.testing.assert_allclose(correct, 1 - inverted)


@pytest.mark.parametrize(
    "labels", [(1, -1), (0, 1), ("good", "bad"), (False, True), (2.0, 0.0)]
)
def test_any_labels(data, labels):
    X, is_anomaly = data
    y = np.array(labels)[is_anomaly]
    forest = IsolationForest(random_state=0).fit(X)
    losses = -forest.score_samples(X)
    for name, metric in [
        ("roc_auc", roc_auc_score),
        ("average_precision", average_precision_score),
    ]:
        scorer = make_outlier_scorer(name, anomaly_label=labels[1])
        assert scorer(forest, X, y) == pytest.approx(metric(is_anomaly, losses))
    (train, _), *_ = InlierSplit(3, anomaly_label=labels[1]).split(X, pd.Series(y))
    assert set(y[train]) == {labels[0]}


def test_label_metrics_by_hand(data):
    X, y = data
    forest = IsolationForest(contamination=0.3, random_state=0).fit(X)
    found, true = forest.predict(X) == -1, y == 1
    hits, marked = (found & true).sum(), found.sum()
    expected = {
        "precision": hits / marked,
        "recall": hits / 20,
        "f1": 2 * hits / (marked + 20),
        "balanced_accuracy": (hits / 20 + (~found & ~true).sum() / 80) / 2,
        "matthews_corrcoef": np.corrcoef(found, true)[0, 1],
    }
    for name, value in expected.items():
        scorer = make_outlier_scorer(name, anomaly_label=1)
        assert scorer(forest, X, y) == pytest.approx(value), name


def test_arguments_of_the_metric(data):
    X, y = data
    forest = IsolationForest(random_state=0).fit(X)
    scorer = make_outlier_scorer("roc_auc", anomaly_label=1, max_fpr=0.1)
    expected = roc_auc_score(y, -forest.score_samples(X), max_fpr=0.1)
    assert scorer(forest, X, y) == pytest.approx(expected)
    assert expected != pytest.approx(roc_auc_score(y, -forest.score_samples(X)))


def share_of_top_ten(is_anomaly, loss):
    return is_anomaly[np.argsort(loss)[-10:]].mean()


def share_of_true(is_anomaly, found):
    assert set(found) <= {0, 1}
    return (is_anomaly == found).mean()


def test_functions_as_metrics(data):
    X, y = data
    forest = IsolationForest(random_state=0).fit(X)
    scorer = make_outlier_scorer(share_of_top_ten, anomaly_label=1)
    assert scorer(forest, X, y) == share_of_top_ten(y, -forest.score_samples(X))
    scorer = make_outlier_scorer(
        share_of_true, anomaly_label=1, response_method="predict"
    )
    assert scorer(forest, X, y) == ((forest.predict(X) == -1) == y).mean()
    assert "share_of_true, anomaly_label=1" in repr(scorer)
    assert pickle.loads(pickle.dumps(scorer))(forest, X, y) == scorer(forest, X, y)


@pytest.mark.parametrize(
    "detector",
    [
        EllipticEnvelope(random_state=0),
        IsolationForest(random_state=0),
        LocalOutlierFactor(novelty=True),
        OneClassSVM(),
        SGDOneClassSVM(random_state=0),
        make_pipeline(StandardScaler(), OneClassSVM()),
        AnoGANDetector(latent_dim=2, n_filters=2, max_epochs=5, random_state=0),
    ],
)
def test_every_outlier_detector(data, detector):
    X, y = data
    scoring = {
        "auc": make_outlier_scorer("roc_auc", anomaly_label=1),
        "f1": make_outlier_scorer("f1", anomaly_label=1),
    }
    folds = InlierSplit(2, anomaly_label=1)
    found = cross_validate(detector, X, y, cv=folds, scoring=scoring)
    for i, (train, test) in enumerate(folds.split(X, y)):
        fitted = clone(detector).fit(X[train])
        auc = roc_auc_score(y[test], -fitted.decision_function(X[test]))
        f1 = f1_score(y[test], fitted.predict(X[test]) == -1)
        assert found["test_auc"][i] == pytest.approx(auc)
        assert found["test_f1"][i] == pytest.approx(f1)
    frozen = FrozenEstimator(fitted)
    again = cross_validate(frozen, X, y, cv=[(train, test)], scoring=scoring)
    assert again["test_auc"] == pytest.approx(auc)


@pytest.mark.parametrize(
    "search",
    [
        lambda *args, **kwargs: GridSearchCV(*args, **kwargs),
        lambda *args, **kwargs: RandomizedSearchCV(
            *args, **kwargs, n_iter=2, random_state=0
        ),
        lambda *args, **kwargs: HalvingGridSearchCV(
            *args,
            **kwargs,
            resource="n_estimators",
            max_resources=20,
            return_train_score=False,
            random_state=0,
        ),
    ],
)
def test_searches(data, search):
    """One of the features hides the anomalies; a forest without it finds them."""
    X, y = data
    pipeline = IsolationForest(random_state=0)
    found = search(
        pipeline,
        {"max_features": [1, 2]},
        cv=InlierSplit(3, anomaly_label=1),
        scoring=make_outlier_scorer("roc_auc", anomaly_label=1),
        refit=False,
    ).fit(X, y)
    scores = found.cv_results_["mean_test_score"]
    assert len(scores) >= 2
    assert (scores > 0.9).all()


def test_several_metrics_score_once(data):
    """The latent search of a detector is not done again for another metric of ranks."""

    class Counting(IsolationForest):
        n_calls = 0

        def decision_function(self, X):
            type(self).n_calls += 1
            return super().decision_function(X)

    X, y = data
    scoring = {
        "auc": make_outlier_scorer("roc_auc", anomaly_label=1),
        "ap": make_outlier_scorer("average_precision", anomaly_label=1),
        "low": make_outlier_scorer("roc_auc", anomaly_label=1, max_fpr=0.1),
    }
    cross_validate(
        Counting(), X, y, cv=InlierSplit(4, anomaly_label=1), scoring=scoring
    )
    assert Counting.n_calls == 4


@pytest.mark.parametrize(
    "cv, n_splits",
    [
        (4, 4),
        (np.int64(3), 3),
        (None, 5),
        (StratifiedKFold(5), 5),
        (KFold(2, shuffle=True, random_state=0), 2),
        (ShuffleSplit(6, random_state=0), 6),
        ([(np.arange(50), np.arange(50, 100))], 1),
        ((fold for fold in [(np.arange(50), np.arange(50, 100))]), 1),
        ([(np.arange(100) < 50, np.arange(100) >= 50)], 1),
    ],
)
def test_any_splitter(data, cv, n_splits):
    X, y = data
    splitter = InlierSplit(cv, anomaly_label=1)
    assert splitter.get_n_splits(X, y) == n_splits
    for _ in range(2):  # a generator is not spent
        folds = list(splitter.split(X, y))
        assert len(folds) == n_splits
        for train, test in folds:
            assert not y[train].any()
            assert set(y[test]) == {0, 1}
    assert repr(splitter).startswith("InlierSplit(")


def test_groups(data):
    X, y = data
    groups = np.tile(np.arange(10), 10)
    cv = InlierSplit(StratifiedGroupKFold(5), anomaly_label=1)
    for train, test in cv.split(X, y, groups):
        assert not set(groups[train]) & set(groups[test])
    scorer, forest = make_outlier_scorer(anomaly_label=1), IsolationForest()
    settings = {"cv": cv, "scoring": scorer}
    cross_validate(forest, X, y, groups=groups, **settings)
    with config_context(enable_metadata_routing=True):
        found = cross_validate(forest, X, y, params={"groups": groups}, **settings)
    assert len(found["test_score"]) == 5


@pytest.mark.parametrize(
    "cv, message",
    [
        (KFold(5), "Fold 0 of KFold.* has 20 normal samples and 0 anomalies to test"),
        (LeaveOneOut(), "1 normal samples and 0 anomalies"),
        (TimeSeriesSplit(3), "25 normal samples and 0 anomalies"),
        (GroupKFold(2), "'groups' parameter should not be None"),
        ([(np.arange(80, 100), np.arange(79, 100))], "no normal sample to train on"),
        ("stratified", "Expected `cv` as an integer"),
        (2.5, "Expected `cv` as an integer"),
        ([(np.arange(50), np.arange(90, 100))], "0 normal samples and 10 anomalies"),
    ],
)
def test_folds_that_cannot_be(data, cv, message):
    with pytest.raises(ValueError, match=message):
        list(InlierSplit(cv, anomaly_label=1).split(*data))


@pytest.mark.parametrize(
    "y, message",
    [
        (None, "y is None"),
        (np.zeros(9), "y has no anomalies"),
        (np.ones(9), "y has only anomalies"),
        (np.array(list("abcabcabc")), "anomaly_label=1 is none.*'a', 'b', 'c'"),
    ],
)
def test_labels_that_cannot_be(y, message):
    X = np.arange(18.0).reshape(9, 2)
    with pytest.raises(ValueError, match=message):
        list(InlierSplit(2, anomaly_label=1).split(X, y))


def test_labels_that_scorers_are_given(data):
    X, y = data
    forest = IsolationForest(n_estimators=5).fit(X)
    with pytest.raises(ValueError, match="anomaly_label=-1 is none of its labels"):
        make_outlier_scorer()(forest, X, y)
    for one_kind in (0, 1):
        with pytest.warns(UndefinedMetricWarning, match="roc_auc_score, anomaly_label"):
            score = make_outlier_scorer(anomaly_label=1)(forest, X, y * 0 + one_kind)
        assert np.isnan(score)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"metric": ["f1"]}, "no metric .'f1'"),
        ({"metric": "accuracy"}, "no metric 'accuracy'. Use one of roc_auc, average"),
        (
            {"response_method": "score_samples"},
            "must be 'decision_function', 'predict'",
        ),
    ],
)
def test_scorers_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_outlier_scorer(**arguments)


@pytest.mark.slow
def test_grid_search_on_a_dask_cluster(quick, digits, dask_cluster, tmp_path):
    """Processes of a real cluster find what one process does, and share the memory."""
    images, labels = digits
    X, y = images[:200], np.where(labels[:200] == 0, 0, 1)
    search = GridSearchCV(
        AnoGANDetector(**quick, memory=tmp_path),
        {"search_steps": [0, 5], "inversion": ["search", "encoder"]},
        cv=InlierSplit(2, anomaly_label=1),
        scoring=make_outlier_scorer(anomaly_label=1),
    )
    with joblib.parallel_config(backend="dask"):
        on_cluster = clone(search).set_params(refit=False).fit(X, y).cv_results_
    # For each fold a GAN and an encoder.
    assert len(list(tmp_path.rglob("output.pkl"))) == 4
    search.set_params(estimator__memory=None, refit=False).fit(X, y)
    for name in ("mean_test_score", "split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(on_cluster[name], search.cv_results_[name])


def test_one_label_for_all_anomalies(data):
    X, y = data
    with pytest.raises(ValueError, match="must be a single label: give all kinds"):
        list(InlierSplit(2, anomaly_label=[1, 2]).split(X, y))
    with pytest.raises(ValueError, match="is none of its labels, which are 0, 'a'"):
        list(InlierSplit(2).split(X, np.array([0, "a"] * 50, dtype=object)))


@pytest.mark.parametrize("missing", [np.nan, None])
def test_missing_labels(missing):
    y = [1.0, 1, 1, -1, -1, missing, missing]
    with pytest.raises(ValueError, match=r"^2 labels of y are missing\. Leave"):
        list(InlierSplit(2).split(np.zeros((7, 1)), np.array(y, dtype=object)))
