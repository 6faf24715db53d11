"""Runs k-means kernels on samples beside memory that may not be read: whoever reads it dies. POSIX only."""

import ctypes
import mmap

import numpy as np

from gdl.kernels import cpu

PAGE, ROOM = mmap.PAGESIZE, 16 * mmap.PAGESIZE
MAY_NOTHING = 0  # PROT_NONE


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


def run_kernels(X):
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


if __name__ == "__main__":
    room = guarded_memory()
    for dtype in ("float32", "float64"):
        for n_features in range(1, 11):
            for n_samples in (1, 2, 3, 5, 15, 16, 17, 31, 32, 33, 300):
                for behind in (True, False):
                    values = np.arange(n_samples * n_features).reshape(n_samples, n_features) % 7
                    run_kernels(beside_guard(room, values.astype(dtype), behind))
