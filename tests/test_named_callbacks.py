import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import EarlyStopping, LRScheduler

from sklearn_anogan import AnoGANDetector


def detector_with(**quick):
    stop = EarlyStopping(monitor="generator_loss", patience=9, sink=lambda text: None)
    rate = LRScheduler("ExponentialLR", gamma=0.9)
    return AnoGANDetector(**quick, callbacks=[("stop", stop), rate])


def test_parameters_of_named_callbacks():
    detector = detector_with()
    params = detector.get_params()
    assert params["callbacks__stop__patience"] == 9
    assert params["callbacks__stop"] is detector.callbacks[0][1]
    assert not any("Exponential" in str(name) for name in params)
    assert "callbacks__stop" not in detector.get_params(deep=False)
    assert detector.set_params(callbacks__stop__patience=3, lr=0.1) is detector
    assert detector.callbacks[0][1].patience == 3
    assert detector.lr == 0.1


def test_a_named_callback_is_replaced_before_its_parameters_are_set():
    detector = detector_with()
    before, rate = detector.callbacks[0][1], detector.callbacks[1]
    other = EarlyStopping(monitor="diversity")
    detector.set_params(callbacks__stop__patience=2, callbacks__stop=other)
    assert detector.callbacks == [("stop", other), rate]
    assert (other.patience, before.patience) == (2, 9)


def test_there_is_no_such_callback():
    with pytest.raises(ValueError, match=r"no callback named 'x'.*\['stop'\]"):
        detector_with().set_params(callbacks__x__patience=3)
    with pytest.raises(ValueError, match="no callback named 'stop'"):
        AnoGANDetector().set_params(callbacks__stop__patience=3)


def test_a_clone_has_callbacks_of_its_own():
    detector = detector_with()
    clone(detector).set_params(callbacks__stop__patience=3)
    assert detector.callbacks[0][1].patience == 9
    assert clone(detector).get_params()["callbacks__stop__patience"] == 9


def test_a_grid_search_over_a_callback(zeros, quick):
    pipe = make_pipeline(
        FunctionTransformer(), detector_with(**quick | {"image_shape": (8, 8)})
    )
    search = GridSearchCV(
        pipe,
        {"anogandetector__callbacks__stop__patience": [1, 2]},
        cv=2,
        scoring=lambda fitted, X, y=None: len(fitted[-1].history_),
        refit=False,
        error_score="raise",
    )
    search.fit(zeros[:80].reshape(80, -1))
    assert len(search.cv_results_["mean_test_score"]) == 2


@pytest.mark.parametrize("monitor", ["valid_loss", "valid_acc"])
def test_a_callback_that_monitors_what_is_not_there(zeros, quick, monitor):
    stop = EarlyStopping(monitor=monitor)
    message = f"{monitor}.*no validation data.*'generator_loss'.*'diversity'"
    with pytest.raises(ValueError, match=message):
        AnoGANDetector(**quick, callbacks=[stop]).fit(zeros)
