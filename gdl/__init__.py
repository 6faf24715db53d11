"""Dense neural networks and k-means as Numba kernels under scikit-learn's interface."""

from gdl import callbacks
from gdl._saving import load
from gdl.choose import choose_n_clusters
from gdl.kmeans import KMeans
from gdl.kmeans_functions import k_means, kmeans_plusplus
from gdl.mini_batch_kmeans import MiniBatchKMeans
from gdl.mlp import MLPClassifier, MLPRegressor

__all__ = [
    "KMeans",
    "MLPClassifier",
    "MLPRegressor",
    "MiniBatchKMeans",
    "callbacks",
    "choose_n_clusters",
    "k_means",
    "kmeans_plusplus",
    "load",
]

__version__ = "0.1.0"
