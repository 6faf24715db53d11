"""Runs kernels on arrays beside memory that may not be read: whoever reads it dies. POSIX only.

python guarded.py clustering | dense
"""

import ctypes
import itertools
import mmap
import sys

import numpy as np

from gdl.kernels import cpu
from gdl.kernels.layout import ACTIVATIONS

PAGE, ROOM = mmap.PAGESIZE, 24 * mmap.PAGESIZE
MAY_NOTHING = 0  # PROT_NONE
IDENTITY = ACTIVATIONS["identity"]


def guarded_memory():
    """Room of whole pages, between two that may not be read."""
    memory = mmap.mmap(-1, PAGE + ROOM + PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for guard in (start, start + PAGE + ROOM):
        if protect(guard, PAGE, MAY_NOTHING) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    return memory


def beside_guard(memory, values, behind):
    """A copy of an array that ends where the second guard begins, or begins where the first ends."""
    start = PAGE + ROOM - values.nbytes if behind else PAGE
    copy = np.frombuffer(memory, values.dtype, values.size, start).reshape(values.shape)
    copy[:] = values
    return copy


def run_clustering(X):
    (n_samples, n_features), k = X.shape, 2
    none, shift = np.empty(0, X.dtype), np.zeros(n_features, X.dtype)
    centers, labels = np.arange(k * n_features).reshape(k, n_features).astype(X.dtype), np.zeros(n_samples, np.int32)
    sums, weights, counts = np.empty((k, n_features)), np.empty(k), np.ones(k)
    for sample_weight in (none, np.ones(n_samples, X.dtype)):
        for offset in (0, 1):
            cpu.lloyd_step(X, sample_weight, shift + X.dtype.type(offset), centers, labels, sums, weights, np.empty(1))
        cpu.label_inertia(X, sample_weight, centers, labels, np.empty(1))
        cpu.mini_batch_update(X, sample_weight, labels, centers.copy(), counts)
    cpu.assign_labels(X, shift, centers, labels)
    cpu.column_moments(X, np.empty(n_features), np.empty(n_features))
    closest, owners, improves = np.full(n_samples, 9, X.dtype), np.zeros(n_samples, np.int32), np.ones(n_samples, "u2")
    cpu.add_seed(X, none, centers[0], improves, 0, 0, closest, owners, np.empty(-(-n_samples // 256)))
    for known in (owners, owners[:0]):
        screen, potentials = np.empty(0, np.uint8), np.empty(k)
        cpu.candidate_potentials(X, none, centers, closest, known, shift[:1], screen, 1.0, potentials, improves)


def run_dense(A):
    """Every product that a matrix takes part in, with few rows or columns of others and with more."""
    n, m = A.shape
    for k in (1, 20):
        cpu.dense_forward(A, np.ones((m, k), A.dtype), np.ones(k, A.dtype), IDENTITY, np.empty((n, k), A.dtype))
        cpu.dense_forward(np.ones((k, n), A.dtype), A, np.ones(m, A.dtype), IDENTITY, np.empty((k, m), A.dtype))
        cpu.dense_weight_gradient(A, np.ones((n, k), A.dtype), np.empty((m, k), A.dtype))
        cpu.dense_weight_gradient(np.ones((n, k), A.dtype), A, np.empty((k, m), A.dtype))
        cpu.dense_input_gradient(A, np.ones((k, m), A.dtype), np.empty((n, k), A.dtype))
        cpu.dense_input_gradient(np.ones((k, m), A.dtype), A, np.empty((k, n), A.dtype))
    cpu.dense_bias_gradient(A, np.empty(m, A.dtype))


SAMPLES = 1, 2, 3, 5, 15, 16, 17, 31, 32, 33, 300
SIZES = 1, 3, 8, 10, 16, 17, 24, 31, 33, 40, 64, 100
RUNS = {
    "clustering": (run_clustering, itertools.product(SAMPLES, range(1, 11))),
    "dense": (run_dense, itertools.product(SIZES, SIZES)),
}

if __name__ == "__main__":
    room = guarded_memory()
    run, shapes = RUNS[sys.argv[1]]
    for shape, dtype, behind in itertools.product(shapes, ("float32", "float64"), (True, False)):
        values = np.arange(shape[0] * shape[1]).reshape(shape) % 7
        run(beside_guard(room, values.astype(dtype), behind))
