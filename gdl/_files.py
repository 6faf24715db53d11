"""What a model can be written to, and how a file is written: whole, or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO


class FileMixin:
    """Writes a model to files."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file, from which ``gdl.load`` makes it again, in any process and on any machine.

        The file holds the parameters, what was learned, and all that it takes to go on: the optimizer's and the
        schedule's state, random numbers, curves. Callbacks are not stored. The file appears whole or not at all: a
        crash or a full disk leaves what was there before. It is a NumPy archive without pickled objects:
        ``numpy.load(path)["gdl"]`` describes the model in JSON, and its arrays lie beside it.

        Parameters
        ----------
        path : str or path-like
            Is replaced if it exists. No suffix is added; ``.npz`` is customary.

        Raises
        ------
        TypeError
            If the model holds something other than numbers, strings, arrays, lists, dicts and ``RandomState``, such
            as a function as ``init``, or is of a class that gdl does not know.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> import gdl
        >>> model = gdl.KMeans(2, random_state=0).fit([[0.0], [1.0], [9.0]])
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     path = os.path.join(directory, "clusters.npz")
        ...     model.save(path)
        ...     gdl.load(path).predict([[8.0]]) == model.predict([[8.0]])
        array([ True])
        """
        from gdl import _saving  # which knows all states, whose modules know the classes that have this method

        _saving.save(self, path)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write what predicts, without gdl and without Python, as an ONNX model.

        The input ``X`` has the type that the model was fitted on, float32 or float64. Outputs:

        - of a classifier ``label``, as ``predict`` returns it, and ``probabilities``;
        - of a regressor ``variable``, of shape (n_samples, n_outputs);
        - of a clustering ``label`` and ``scores``, what ``transform`` returns.

        Numbers are those of gdl up to rounding; those of ``"gelu"`` in float32. Names of features are in the model's
        metadata. The file appears whole or not at all.

        Parameters
        ----------
        path : str or path-like
            Is replaced if it exists. No suffix is added; ``.onnx`` is customary.

        Raises
        ------
        ImportError
            If the package ``onnx`` is missing.
        sklearn.exceptions.NotFittedError
            If the model has not learned yet.
        ValueError
            If ONNX has no type for the class labels, or the model has more than 2 GiB.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> import gdl
        >>> model = gdl.KMeans(2, random_state=0).fit([[0.0], [1.0], [9.0]])
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     model.to_onnx(os.path.join(directory, "clusters.onnx"))
        ...     os.listdir(directory)
        ['clusters.onnx']
        """
        try:
            import onnx  # noqa: F401
        except ImportError as error:
            raise ImportError('to_onnx needs the package onnx; install it with pip install "gdl[onnx]".') from error
        from gdl import _onnx

        _onnx.write(self, path)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` once everything in it is on the disk; on an error nothing changes.

    Where the system has files without a name (Linux), not even a process that is killed leaves one behind.
    """
    target = os.path.realpath(os.fspath(path))  # a link goes on leading to the file
    if os.path.isdir(target):
        raise IsADirectoryError(f"{os.fspath(path)} is a directory; pass the path of a file.")
    directory, name = os.path.split(target)
    if not os.path.isdir(directory):
        raise FileNotFoundError(errno.ENOENT, "There is no such directory", directory)
    temporary = os.path.join(directory, f".{name}.{secrets.token_hex(4)}.tmp")
    descriptor, has_name = _open(directory, temporary)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            if os.chmod in os.supports_fd and os.path.exists(target):
                os.chmod(file.fileno(), stat.S_IMODE(os.stat(target).st_mode))
            os.fsync(file.fileno())
            if not has_name:
                # To follow the link, Python has to be given a directory, which an absolute path does not need.
                os.link(f"/proc/self/fd/{file.fileno()}", temporary, src_dir_fd=file.fileno())
                has_name = True
        os.replace(temporary, target)
    except BaseException:
        if has_name:
            with suppress(FileNotFoundError):
                os.remove(temporary)
        raise
    _sync_directory(directory)


def _open(directory: str, temporary: str) -> tuple[int, bool]:
    """Return the descriptor of a new file, and whether it has a name yet."""
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        with suppress(OSError):  # not every file system has them
            return os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o666), False
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.open(temporary, flags, 0o666), True


def _sync_directory(directory: str) -> None:
    """Bring the new name to the disk, where directories can be opened."""
    with suppress(OSError):
        descriptor: Any = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
