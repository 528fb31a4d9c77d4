# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""How callbacks end a training early, and how such a stop differs from Ctrl-C.

skorch's callbacks end a training by raising KeyboardInterrupt, which skorch's ``fit``
takes for the end. Python raises the same exception for Ctrl-C, which here has to stop
the whole ``fit`` of the detector: the user wants the program back. Only this file
tells the two apart.
"""

import dis
from enum import Enum

from skorch import NeuralNet


class Stop(Enum):
    """Who has ended a training."""

    BY_CALLBACK = "a callback of skorch, which the training's checkpoint describes"
    FROM_OUTSIDE = "a callback of scikit-learn, of which the training knows nothing"


class StoppableNet(NeuralNet):
    """A net that callbacks can end after an epoch, while Ctrl-C raises as always.

    Attributes
    ----------
    stop : Stop or None
        Who has ended the training; None if nobody has.
    """

    stop = None

    def notify(self, method_name, **cb_kwargs):
        """Call the callbacks; one that raises KeyboardInterrupt ends the training."""
        try:
            super().notify(method_name, **cb_kwargs)
        except KeyboardInterrupt as interrupt:
            if method_name != "on_epoch_end" or not is_deliberate(interrupt):
                raise
            self.stop = Stop.BY_CALLBACK

    def run_epochs(self, dataset):
        """Train to the last epoch, or until `stop` says who has ended the training."""
        while self.stop is None and len(self.history) < self.max_epochs:
            self.fit_loop(dataset, epochs=1)  # skorch's fit() would swallow Ctrl-C


def is_deliberate(interrupt):
    """Whether a KeyboardInterrupt comes from a raise statement, not from Ctrl-C."""
    traceback = interrupt.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    instruction = traceback.tb_frame.f_code.co_code[traceback.tb_lasti]
    return instruction == dis.opmap["RAISE_VARARGS"]
