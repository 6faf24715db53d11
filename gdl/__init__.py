"""Dense neural networks as Numba kernels under scikit-learn's interface."""

__version__ = "0.1.0"
