"""What a network can do once it has learned: show its parameters, predict, and be pickled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from gdl import _validation, kernels
from gdl._files import FileMixin
from gdl.kernels import layout
from gdl.training import predict, rows_in_a_run


class Views(list[NDArray[Any]]):
    """Views of a vector; putting an array into the list writes its numbers into the vector."""

    def __setitem__(self, index: Any, value: Any) -> None:
        self[index][...] = value


class FittedNetwork(FileMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Parameters as one vector with its views, and everything that only reads them."""

    _parameters: NDArray[Any]
    _layers: NDArray[np.int64]
    _device: str
    _param_names: tuple[str, ...]
    #: What the short way of predicting needs at hand; empty until the first prediction.
    _at_hand: Any = ()

    @classmethod
    def _get_param_names(cls) -> list[str]:
        """Names of the parameters, looked up once: scikit-learn reads the signature for every fit, in 0.1 ms."""
        if "_param_names" not in vars(cls):
            cls._param_names = tuple(super()._get_param_names())
        return list(cls._param_names)

    @property
    def parameters_(self) -> NDArray[Any]:
        """All knobs as one vector: for each layer W, row by row, and b; writing into it changes the model."""
        check_is_fitted(self)
        return self._parameters

    @parameters_.setter
    def parameters_(self, values: Any) -> None:
        self.parameters_[...] = values

    @property
    def coefs_(self) -> list[NDArray[Any]]:
        """The W of each layer, of shape (n_in, n_out); views of ``parameters_``."""
        return Views(layout.weight_views(self.parameters_, self._layers))

    @coefs_.setter
    def coefs_(self, values: Any) -> None:
        for W, value in zip(self.coefs_, values, strict=True):
            W[...] = value

    @property
    def intercepts_(self) -> list[NDArray[Any]]:
        """The b of each layer, of shape (n_out,); views of ``parameters_``; empty without intercepts."""
        return Views(layout.bias_views(self.parameters_, self._layers))

    @intercepts_.setter
    def intercepts_(self, values: Any) -> None:
        for b, value in zip(self.intercepts_, values, strict=True):
            b[...] = value

    def __sklearn_is_fitted__(self) -> bool:
        """Tell scikit-learn whether there are parameters."""
        return "_parameters" in vars(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled and copied: all but compiled functions, which a prediction fetches again."""
        state: dict[str, Any] = super().__getstate__()
        return {**state, "_at_hand": []} if "_at_hand" in state else state

    def _outputs(self, X: Any) -> NDArray[Any]:
        """Outputs of the network for X as the user passes it.

        What a service sends, a plain array of the model's type, takes a short way through the same checks.
        """
        at_hand = self._at_hand
        if at_hand and type(X) is np.ndarray and X.ndim == 2:
            dtype, n_in, n_out, most_rows, layers, parameters, all_finite, predict_rows = at_hand
            n_rows, n_columns = X.shape
            if X.dtype is dtype and n_columns == n_in and 0 < n_rows <= most_rows and X.flags.c_contiguous:
                finite = np.empty(1)
                all_finite(X, finite)
                if finite[0]:
                    out = np.empty((n_rows, n_out), dtype)
                    predict_rows(X, layers, parameters, out)
                    return out
        return self._checked_outputs(X)

    def _checked_outputs(self, X: Any) -> NDArray[Any]:
        check_is_fitted(self)
        X = _validation.check_inputs(self, X, self._parameters.dtype)
        kernel_set = kernels.load(self._device)
        if not self._at_hand and "feature_names_in_" not in vars(self):  # a plain array has no names to compare
            most_rows = rows_in_a_run(self._layers, 2, 1024)
            functions = kernel_set.all_finite, kernel_set.predict
            dtype, n_out = self._parameters.dtype, int(self._layers[-1, layout.N_OUT])
            self._at_hand[:] = dtype, X.shape[1], n_out, most_rows, self._layers, self._parameters, *functions
        return predict(kernel_set, X, self._layers, self._parameters)

    def transform(self, X: Any) -> Any:
        """Outputs of the last hidden layer; a copy of X where there is none.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_units)
        """
        check_is_fitted(self)
        X = _validation.check_inputs(self, X, self._parameters.dtype)
        if len(self._layers) == 1:
            return X.copy()
        return predict(kernels.load(self._device), X, self._layers[:-1], self._parameters)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the columns that ``transform`` returns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of X's columns; used only where there is no hidden layer.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        mixin = OneToOneFeatureMixin if len(self._layers) == 1 else ClassNamePrefixFeaturesOutMixin
        names: NDArray[Any] = mixin.get_feature_names_out(self, input_features)
        return names

    @property
    def _n_features_out(self) -> int:
        return int(self._layers[-1, layout.N_IN])

    def activations(self, X: Any) -> list[NDArray[Any]]:
        """Outputs of every layer, the last included.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        list of ndarray of shape (n_samples, n_units)
        """
        check_is_fitted(self)
        X = _validation.check_inputs(self, X, self._parameters.dtype)
        kernel_set, n_units = kernels.load(self._device), layout.n_units(self._layers)
        outputs = [np.empty((len(X), n_out), X.dtype) for n_out in self._layers[:, layout.N_OUT].tolist()]
        n_rows = rows_in_a_run(self._layers, 2, 1024)
        for start in range(0, len(X), n_rows):
            rows = X[start : start + n_rows]
            flat = np.empty(len(rows) * n_units, X.dtype)
            kernel_set.forward(rows, self._layers, self._parameters, flat)
            for output, part in zip(outputs, layout.unit_views(flat, self._layers, len(rows)), strict=True):
                output[start : start + n_rows] = part
        return outputs

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what the estimator can do."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
