"""Dense neural networks as Numba kernels under scikit-learn's interface."""

from gdl.mlp import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]

__version__ = "0.1.0"
