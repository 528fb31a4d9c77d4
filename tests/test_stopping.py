import _thread
import os
import signal
import sys

import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping
from torch import nn
from torch.utils.data import TensorDataset

from sklearn_anogan._training._stopping import Stop, StoppableNet, is_deliberate


@pytest.fixture(autouse=True)
def ctrl_c():
    """Ctrl-C raises KeyboardInterrupt.

    It does not where the tests were started in the background: there, a process ignores
    the signal from the beginning, and Python leaves it at that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def raise_it():
    raise KeyboardInterrupt


def send_signal():
    os.kill(os.getpid(), signal.SIGINT)
    _wait()


def interrupt_main():
    _thread.interrupt_main()
    _wait()


def _wait():
    for _ in range(1000):  # Python looks at the signal soon
        pass


def clean_up_after(source):
    def interrupt():
        try:
            source()
        except KeyboardInterrupt:
            sys.getsizeof(source)
            raise

    return interrupt


@pytest.mark.parametrize(
    "source, is_raised",
    [
        (raise_it, True),
        (send_signal, False),
        (interrupt_main, False),
        (clean_up_after(raise_it), True),
        (clean_up_after(send_signal), False),
    ],
)
def test_deliberate_interrupts(source, is_raised):
    with pytest.raises(KeyboardInterrupt) as caught:
        source()
    assert is_deliberate(caught.value) == is_raised


class At(Callback):
    """Does something at an event, and counts the events of every kind."""

    def __init__(self, event, act):
        self.event, self.act = event, act
        self.n_seen = {}

    def on_train_begin(self, net, **kwargs):
        self.see("on_train_begin", net)

    def on_epoch_begin(self, net, **kwargs):
        self.see("on_epoch_begin", net)

    def on_batch_begin(self, net, **kwargs):
        self.see("on_batch_begin", net)

    def on_grad_computed(self, net, *args, **kwargs):
        self.see("on_grad_computed", net)

    def on_batch_end(self, net, **kwargs):
        self.see("on_batch_end", net)

    def on_epoch_end(self, net, **kwargs):
        self.see("on_epoch_end", net)

    def on_train_end(self, net, **kwargs):
        self.see("on_train_end", net)

    def see(self, event, net):
        self.n_seen[event] = self.n_seen.get(event, 0) + 1
        if event == self.event:
            self.act()


def test_callback_ends_the_training(dataset, train):
    """As skorch's callbacks do: the epoch is over, and the net is used as it is."""
    callback = At("on_epoch_end", raise_it)
    net = train(dataset, callbacks=[callback], max_epochs=20)
    assert net.stop is Stop.BY_CALLBACK
    assert len(net.history) == 1
    assert callback.n_seen["on_batch_end"] == 3
    assert callback.n_seen["on_train_end"] == 1
    whole = train(dataset, max_epochs=1)
    assert whole.stop is None
    for ended, value in zip(
        net.module_.parameters(), whole.module_.parameters(), strict=True
    ):
        assert torch.equal(ended, value)


def test_early_stopping_ends_the_training(dataset, train):
    stop = EarlyStopping("generator_loss", patience=2, threshold=1e9, sink=str)
    net = train(dataset, callbacks=[stop], max_epochs=20)
    assert len(net.history) == 3
    assert net.stop is Stop.BY_CALLBACK


@pytest.mark.parametrize(
    "event",
    [
        "on_train_begin",
        "on_epoch_begin",
        "on_batch_begin",
        "on_grad_computed",
        "on_batch_end",
        "on_train_end",
    ],
)
def test_ctrl_c_is_not_the_end_of_training(dataset, train, event):
    """Only at the end of an epoch do callbacks end a training by the exception."""
    callback = At(event, raise_it)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, callbacks=[callback])
    assert callback.n_seen[event] == 1


@pytest.mark.parametrize("press", [send_signal, interrupt_main])
@pytest.mark.parametrize("event", ["on_epoch_end", "on_batch_begin"])
def test_ctrl_c_in_a_callback(dataset, train, event, press):
    """Also where skorch's callbacks raise the same exception to end a training."""
    callback = At(event, press)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, callbacks=[callback])
    assert callback.n_seen[event] == 1
    assert "on_train_end" not in callback.n_seen


@pytest.fixture
def net():
    """A net that can be stopped, and nothing else."""
    return StoppableNet(
        nn.Linear,
        nn.MSELoss,
        module__in_features=2,
        module__out_features=1,
        max_epochs=4,
        train_split=None,
        callbacks=[("first", Callback()), ("second", At(None, None))],
        verbose=0,
    )


@pytest.fixture
def numbers():
    return TensorDataset(torch.ones(3, 2), torch.ones(3, 1))


def test_epochs_to_the_last(net, numbers):
    """A net goes on where it is, and does nothing when nothing is left."""
    net.initialize()
    for n_epochs in (4, 4, 6):
        net.set_params(max_epochs=n_epochs)
        net.run_epochs(numbers)
        assert net.history[:, "epoch"] == list(range(1, n_epochs + 1))
        assert net.stop is None


def test_stop_from_outside(net, numbers):
    """The net ends after the epoch, of which the other callbacks are told."""

    class FromOutside(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                net.stop = Stop.FROM_OUTSIDE

    net.set_params(callbacks__first=FromOutside()).initialize()
    for _ in range(2):
        net.run_epochs(numbers)
        assert net.stop is Stop.FROM_OUTSIDE
        assert len(net.history) == 2
    assert dict(net.callbacks_)["second"].n_seen["on_epoch_end"] == 2


def test_stop_by_a_callback(net, numbers):
    net.set_params(callbacks__first=At("on_epoch_end", raise_it)).initialize()
    for _ in range(2):
        net.run_epochs(numbers)
        assert net.stop is Stop.BY_CALLBACK
        assert len(net.history) == 1


@pytest.mark.parametrize("press", [send_signal, interrupt_main])
def test_ctrl_c_stops_all(net, numbers, press):
    net.set_params(callbacks__first=At("on_epoch_end", press)).initialize()
    with pytest.raises(KeyboardInterrupt):
        net.run_epochs(numbers)
    assert net.stop is None
