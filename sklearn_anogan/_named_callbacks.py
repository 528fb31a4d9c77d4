# Authors: The sklearn-anogan developers
# SPDX-License-Identifier: BSD-3-Clause
"""Parameters of named callbacks, as skorch and scikit-learn's pipelines have them."""

from typing import Any, Self


class NamedCallbacksMixin:
    """``callbacks__name__parameter`` for callbacks given as (name, callback)."""

    callbacks: Any

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get parameters, with those of named callbacks.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the named callbacks and their parameters, as
            ``callbacks__name`` and ``callbacks__name__parameter``.

        Returns
        -------
        params : dict

        Examples
        --------
        >>> from skorch.callbacks import EarlyStopping
        >>> from sklearn_anogan import AnoGANDetector
        >>> stop = EarlyStopping(monitor="generator_loss", patience=9)
        >>> detector = AnoGANDetector(callbacks=[("stop", stop)])
        >>> detector.get_params()["callbacks__stop__patience"]
        9
        """
        params = super().get_params(deep=deep)  # type: ignore[misc]
        for name, callback in self._named_callbacks().items() if deep else ():
            params[f"callbacks__{name}"] = callback
            if hasattr(callback, "get_params"):
                for parameter, value in callback.get_params(deep=True).items():
                    params[f"callbacks__{name}__{parameter}"] = value
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also those of named callbacks.

        Parameters
        ----------
        **params
            Parameters by name. ``callbacks__name`` replaces a named callback, and
            ``callbacks__name__parameter`` sets one of its parameters.

        Returns
        -------
        self : detector

        Raises
        ------
        ValueError
            If there is no such parameter or callback.

        Examples
        --------
        >>> from skorch.callbacks import EarlyStopping
        >>> from sklearn_anogan import AnoGANDetector
        >>> stop = EarlyStopping(monitor="generator_loss")
        >>> detector = AnoGANDetector(callbacks=[("stop", stop)])
        >>> detector = detector.set_params(callbacks__stop__patience=3)
        >>> stop.patience
        3
        """
        of_callbacks = {
            key: params.pop(key)
            for key in list(params)
            if key.startswith("callbacks__")
        }
        super().set_params(**params)  # type: ignore[misc]
        for key in sorted(of_callbacks, key=len):  # a callback before its parameters
            _, name, *parameter = key.split("__", 2)
            named = self._named_callbacks()
            if name not in named:
                raise ValueError(
                    f"Invalid parameter {key!r}: there is no callback named {name!r}. "
                    f"Named callbacks are {[*named]}; name one as (name, callback)."
                )
            if parameter:
                named[name].set_params(**{parameter[0]: of_callbacks[key]})
            else:
                self.callbacks = [
                    (name, of_callbacks[key]) if _is_named(each, name) else each
                    for each in self.callbacks
                ]
        return self

    def _named_callbacks(self):
        # Parameters are checked by `fit`: until then, this may be anything.
        callbacks = self.callbacks if isinstance(self.callbacks, list) else ()
        return {
            each[0]: each[1]
            for each in callbacks
            if isinstance(each, tuple) and len(each) == 2
        }


def _is_named(each, name):
    return isinstance(each, tuple) and each[0] == name
