"""The format of a saved model: a NumPy archive (zip of .npy files) without pickled objects.

The archive holds ``gdl``, a 0-d bytes array of JSON that describes the model as a tree, and the arrays that the
tree names. It is not compressed, so that no member is larger than the file. The zip comment, the last bytes of the
file, is the SHA-256 digest of everything before it; a file that does not match is not read any further.

A node of the tree is None, a bool, an int, a finite float or a string as JSON has them, or an object with one of
these keys:

============ ========================================================================================
float        "inf", "-inf" or "nan"
number       a NumPy scalar: [type, value]
tuple        nodes
list         nodes
dict         pairs of nodes
array        name of a member; ``dtype`` if it is stored in a smaller integer type
objects      nodes of an array of Python objects; ``shape``
numbers      an ``array.array``: [type code, name of a member]
random_state state of a ``RandomState``
state        name of a class of ``STATES``; ``fields``, a node each
requests     what scikit-learn's metadata routing was asked for: {method: {name: node}}
same         number of a list, dict, array, RandomState or state before, which this one *is*
============ ========================================================================================

Objects that ``same`` may mean are counted in the order in which their nodes begin.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import io
import json
import math
import os
import re
import struct
import zipfile
from array import array
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn, TypeVar

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.utils._metadata_requests import SIMPLE_METHODS
from sklearn.utils.metadata_routing import MetadataRequest

from gdl._consistency import DamagedError, check_consistent, require
from gdl._files import whole_file
from gdl._validation import Target
from gdl.lloyd import Progress, Run
from gdl.mini_batch import Stopping, Stream, StreamProgress
from gdl.training import Training

FORMAT = 1
HEADER = "gdl"
DIGEST_MARK = b"gdl sha256 "
DIGEST_SIZE = len(DIGEST_MARK) + 64
MODELS = ("MLPClassifier", "MLPRegressor", "KMeans", "MiniBatchKMeans")
#: Attributes that belong to a process, not to a model.
PASSING = ("_skl_callbacks", "_skl_callbacks_to_teardown", "_callback_fit_ctx", "_parent_callback_ctx")
DTYPE = re.compile(r"[<>|]([biu][1248]|f[248]|[US][0-9]{1,9})")

#: Classes that a file may hold, dataclasses and named tuples, by the names that stay when the code is moved.
STATES: dict[str, type] = {}

StateType = TypeVar("StateType", bound=type)


def state(name: str) -> Callable[[StateType], StateType]:
    """Register a dataclass or named tuple that models hold, under a name that files keep.

    A field that is added later must have a default, which older files get.
    """

    def register(cls: StateType) -> StateType:
        STATES[name] = cls
        return cls

    return register


for _cls in (Target, Training, Run, Progress, Stream, Stopping, StreamProgress):
    state(_cls.__name__)(_cls)


def field_names(cls: type) -> list[str]:
    """Names of the fields of a dataclass or named tuple."""
    names = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else cls._fields  # type: ignore[attr-defined]
    return list(names)


# From a model to a file.


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write what ``FileMixin.save`` writes."""
    import gdl

    writer = Writer()
    parameters = check_savable(model, writer)
    state = model.__getstate__()
    try:
        check_consistent(state)
    except DamagedError as error:
        raise ValueError(f"The model cannot be saved: {error}; set its attributes back, or fit it anew.") from None
    names = [name for name in state if name not in parameters and name not in PASSING]
    header = {
        "format": FORMAT,
        "gdl": gdl.__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "model": type(model).__name__,
        "parameters": parameters,
        "attributes": {name: writer.node(state[name], name) for name in names},
    }
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode("ascii")
    with whole_file(path) as file:
        write_archive(file, {HEADER: np.array(text), **writer.arrays})


def check_savable(model: Any, writer: Writer | None = None) -> dict[str, Any]:
    """Return the nodes of a model's parameters; refuse a model that no file could hold, even if it has not learned."""
    import gdl

    name = type(model).__name__
    if name not in MODELS or type(model) is not getattr(gdl, name):
        raise TypeError(
            f"Files hold {', '.join(MODELS)}, but this is a {type(model).__qualname__}, which gdl.load does not know; "
            "pickle it."
        )
    writer = Writer() if writer is None else writer
    return {name: writer.node(value, name) for name, value in model.get_params(deep=False).items()}


def write_archive(file: BinaryIO, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays as members of an archive, and the digest of it all as its comment."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, values in arrays.items():
            # Without the time of day, the same model makes the same file.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=values.nbytes > 2**30) as member:
                np.lib.format.write_array(member, values, version=(1, 0), allow_pickle=False)
        archive.comment = DIGEST_MARK + b"0" * 64
    size = file.seek(0, os.SEEK_END) - 64
    digest = digest_of(file, size)
    file.seek(size)
    file.write(digest)


def digest_of(file: BinaryIO, size: int) -> bytes:
    """Return the SHA-256 digest of the first ``size`` bytes, in hexadecimal."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (part := file.read(min(size, 2**20))):
        digest.update(part)
        size -= len(part)
    return digest.hexdigest().encode("ascii")


class Writer:
    """Makes nodes of values, and collects the arrays that they name."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}
        self.numbers: dict[int, int] = {}  #: of the objects so far, by their id
        self.objects: list[Any] = []  #: kept, so that no other object gets the id of one that is gone
        self.unfinished: set[int] = set()

    def node(self, value: Any, path: str) -> Any:
        """Return the node of a value; ``path`` says where it was found."""
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, np.generic):
            return self._number(value, path)
        if type(value) is tuple:
            return {"tuple": self._nodes(value, path)}
        if isinstance(value, tuple) and type(value) in STATES.values():
            return self._state(value, path)
        if id(value) in self.numbers:
            if id(value) in self.unfinished:
                self._refuse(value, path, "it holds itself")
            return {"same": self.numbers[id(value)]}
        self.numbers[id(value)] = len(self.objects)
        self.objects.append(value)
        self.unfinished.add(id(value))
        node = self._object(value, path)
        self.unfinished.remove(id(value))
        return node

    def _nodes(self, values: Any, path: str) -> list[Any]:
        return [self.node(value, f"{path}.{i}") for i, value in enumerate(values)]

    def _object(self, value: Any, path: str) -> dict[str, Any]:
        if type(value) is list:
            return {"list": self._nodes(value, path)}
        if type(value) is dict:
            return {"dict": [[self.node(k, path), self.node(v, f"{path}.{k}")] for k, v in value.items()]}
        if type(value) in (np.ndarray, np.memmap):
            return self._array(value, path)
        if type(value) is array:
            return {"numbers": [value.typecode, self._member(np.array(value), path)]}
        if type(value) is np.random.RandomState:
            drawn = value.get_state(legacy=False)
            if drawn["bit_generator"] != "MT19937":
                self._refuse(value, path, f"its bit generator is {drawn['bit_generator']}, not MT19937")
            return {"random_state": self.node(drawn, path)}
        if type(value) in STATES.values():
            return self._state(value, path)
        if type(value) is MetadataRequest:
            return {"requests": {name: dict(getattr(value, name).requests) for name in SIMPLE_METHODS}}
        return self._refuse(value, path, f"it is a {type(value).__qualname__}")

    def _state(self, value: Any, path: str) -> dict[str, Any]:
        cls = type(value)
        name = next(name for name, known in STATES.items() if known is cls)
        fields = {field: self.node(getattr(value, field), f"{path}.{field}") for field in field_names(cls)}
        return {"state": name, "fields": fields}

    def _number(self, value: np.generic, path: str) -> dict[str, Any]:
        if not DTYPE.fullmatch(value.dtype.str) or value.dtype.kind == "S":
            self._refuse(value, path, f"it is a number of type {value.dtype}")
        return {"number": [value.dtype.str, self.node(value.item(), path)]}

    def _array(self, values: NDArray[Any], path: str) -> dict[str, Any]:
        if values.dtype == object:
            if not all(item is None or type(item) in (bool, int, float, str) for item in values.flat):
                self._refuse(values, path, "it is an array of objects that are neither strings nor numbers")
            return {"objects": self._nodes(values.ravel().tolist(), path), "shape": list(values.shape)}
        if not DTYPE.fullmatch(values.dtype.str):
            self._refuse(values, path, f"it is an array of type {values.dtype}")
        small = smallest_dtype(values)
        if small == values.dtype:
            return {"array": self._member(values, path)}
        return {"array": self._member(values.astype(small), path), "dtype": values.dtype.str}

    def _member(self, values: NDArray[Any], path: str) -> str:
        """Add an array, and return the name that it gets."""
        name = path = re.sub(r"[^A-Za-z0-9_.]", "_", path)
        while name in self.arrays or name == HEADER:
            name = f"{path}.{len(self.arrays)}"
        self.arrays[name] = values
        return name

    def _refuse(self, value: Any, path: str, why: str) -> NoReturn:
        shown = re.sub(r"\s+", " ", repr(value))
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        raise TypeError(
            f"{path}={shown} cannot be saved: {why}, and a file holds numbers, strings, arrays, lists, dicts and "
            "RandomState only; set it to one of these, or pickle the model."
        )


def smallest_dtype(values: NDArray[Any]) -> np.dtype[Any]:
    """Return the smallest type that holds an array of integers: row numbers would be most of a small file.

    >>> smallest_dtype(np.arange(300)), smallest_dtype(np.array([0.5]))
    (dtype('uint16'), dtype('float64'))
    """
    if values.dtype.kind not in "iu" or values.size == 0:
        return values.dtype
    ends = np.result_type(np.min_scalar_type(values.min()), np.min_scalar_type(values.max()))
    return ends if ends.kind in "iu" and ends.itemsize < values.dtype.itemsize else values.dtype


# From a file to a model.


def load(path: str | os.PathLike[str]) -> Any:
    """Make the model again that ``model.save(path)`` wrote; it predicts and goes on as the one that was saved.

    No code of the file is run, nothing is imported and nothing unpickled. A file that is damaged, cut off, foreign or
    of a newer gdl is refused.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    MLPClassifier, MLPRegressor, KMeans or MiniBatchKMeans
        Without callbacks.

    Raises
    ------
    ValueError
        If gdl did not write the file, or a newer one did, or it has changed since.
    OSError
        If the file cannot be read: ``FileNotFoundError``, ``IsADirectoryError``, ``PermissionError``.

    Examples
    --------
    >>> import os, tempfile
    >>> import gdl
    >>> model = gdl.MLPRegressor(4, solver="lbfgs", random_state=0, warm_start=True, max_iter=500)
    >>> model = model.fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     model.save(os.path.join(directory, "line.npz"))
    ...     again = gdl.load(os.path.join(directory, "line.npz"))
    >>> bool((again.parameters_ == model.parameters_).all())
    True
    """
    with open(path, "rb") as file:
        try:
            return read(file)
        except NewerError as error:
            raise ValueError(f"{os.fspath(path)} {error}") from None
        except ForeignError:
            raise ValueError(
                f"{os.fspath(path)} is no file of gdl; pass one that save() of a gdl model wrote."
            ) from None
        except WRONG as error:
            detail = str(error) if isinstance(error, DamagedError) else "it holds what save() does not write"
            raise ValueError(f"{os.fspath(path)} is damaged: {detail}; load another copy of it.") from error


#: What comes of reading content that save() does not write.
WRONG = (
    ArithmeticError, AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError, struct.error,
    zipfile.BadZipFile,
)  # fmt: skip


class ForeignError(Exception):
    """A file that gdl did not write."""


class NewerError(Exception):
    """A file of a later format."""


def read(file: BinaryIO) -> Any:
    """Return the model of a file that is open."""
    check_digest(file)
    with zipfile.ZipFile(file) as archive:
        members = Members(archive)
        header = json.loads(members.array(HEADER).item())
        require(isinstance(header["format"], int) and header["format"] > 0, "it is of no format")
        if header["format"] > FORMAT:
            raise NewerError(
                f"is of format {header['format']}, written by gdl {header['gdl']}, but this gdl reads formats up to "
                f"{FORMAT}; update gdl."
            )
        require(header["model"] in MODELS, f"it holds a {header['model']!r}")
        return model_of(header, Reader(members))


def check_digest(file: BinaryIO) -> None:
    """Refuse a file that is not, byte by byte, what was written."""
    start = file.read(30 + len(HEADER) + 4)
    size = file.seek(0, os.SEEK_END)
    if start[:4] != b"PK\x03\x04" or start[30:] != f"{HEADER}.npy".encode():
        raise ForeignError
    file.seek(max(size - DIGEST_SIZE, 0))
    end = file.read()
    whole = end.startswith(DIGEST_MARK) and digest_of(file, size - 64) == end[len(DIGEST_MARK) :]
    require(whole, "its bytes do not match its digest, so it was cut off or changed")


def model_of(header: dict[str, Any], reader: Reader) -> Any:
    """Return the model that a header describes."""
    import gdl

    cls = getattr(gdl, header["model"])
    known = list(inspect.signature(cls).parameters)
    unknown = [name for name in header["parameters"] if name not in known]
    require(not unknown, f"{cls.__name__} has no parameter {unknown}")
    model = cls(**{name: reader.value(node) for name, node in header["parameters"].items()})
    attributes = {name: reader.value(node) for name, node in header["attributes"].items()}
    require(not set(attributes) & {*known, *PASSING, "__class__"}, "attributes and parameters have the same names")
    if "_metadata_request" in attributes:
        attributes["_metadata_request"] = requests_of(model, attributes["_metadata_request"])
    vars(model).update(attributes)
    check_consistent(vars(model))
    return model


def requests_of(model: Any, requests: dict[str, dict[str, Any]]) -> Any:
    """Return what scikit-learn's metadata routing keeps of an estimator."""
    routing = model._get_metadata_request()
    for method, names in requests.items():
        require(method in SIMPLE_METHODS, f"there is no method {method!r}")
        getattr(routing, method).requests.update(names)
    return routing


class Members:
    """Arrays of an archive; what they claim to hold is compared with how many bytes there are before it is made."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        for info in archive.infolist():
            require(info.compress_type == zipfile.ZIP_STORED, f"{info.filename!r} is compressed")

    def array(self, name: str) -> NDArray[Any]:
        """Return an array of its own."""
        data = self.archive.read(f"{name}.npy")
        stream = io.BytesIO(data)
        require(np.lib.format.read_magic(stream) == (1, 0), f"{name!r} is of another version of NumPy's format")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
        require(DTYPE.fullmatch(dtype.str), f"{name!r} is of type {dtype}")
        require(all(length >= 0 for length in shape) and dtype.itemsize > 0, f"{name!r} has no shape")
        start = stream.tell()
        n_bytes = math.prod(shape) * dtype.itemsize
        require(n_bytes == len(data) - start, f"{name!r} has {len(data) - start} bytes, not {n_bytes}")
        values = np.frombuffer(data, dtype, offset=start) if n_bytes else np.empty(0, dtype)
        return values.reshape(shape, order="F" if fortran_order else "C").copy("K")


class Reader:
    """Makes values of nodes."""

    def __init__(self, members: Members) -> None:
        self.members = members
        self.objects: list[Any] = []

    def value(self, node: Any) -> Any:
        """Return the value of a node."""
        if not isinstance(node, dict):
            require(not isinstance(node, list), "a node has no kind")
            return node
        kind = next(iter(node), "nothing")
        require(kind in node, "a node has no kind")
        content = node[kind]
        if kind == "float":
            require(content in ("inf", "-inf", "nan"), "a number is none")
            return float(content)
        if kind == "number":
            number = self._dtype(content[0]).type(self.value(content[1]))
            require(isinstance(number, np.generic), "a number is none")
            return number
        if kind == "tuple":
            return tuple(map(self.value, content))
        if kind == "same":
            require(self.objects[content] is not self, "an object holds itself")
            return self.objects[content]
        if kind == "state" and issubclass(STATES[content], tuple):
            return self._state(node)
        position = len(self.objects)
        self.objects.append(self)  # a mark: this one is not finished
        self.objects[position] = value = self._object(kind, content, node)
        return value

    def _object(self, kind: str, content: Any, node: dict[str, Any]) -> Any:
        if kind == "list":
            return list(map(self.value, content))
        if kind == "dict":
            return {self.value(key): self.value(value) for key, value in content}
        if kind == "array":
            values = self.members.array(content)
            return values.astype(self._dtype(node["dtype"])) if "dtype" in node else values
        if kind == "objects":
            items = np.empty(len(content), object)
            items[:] = list(map(self.value, content))
            return items.reshape(node["shape"])
        if kind == "numbers":
            type_code, name = content
            values = self.members.array(name)
            require(np.array(array(type_code)).dtype == values.dtype, f"{name!r} is not of type {type_code!r}")
            return array(type_code, values.tobytes())
        if kind == "random_state":
            return random_state_of(self.value(content))
        if kind == "requests":
            return content
        require(kind == "state", f"there is no kind {kind!r}")
        return self._state(node)

    def _state(self, node: dict[str, Any]) -> Any:
        cls = STATES[node["state"]]
        known = field_names(cls)
        unknown = [name for name in node["fields"] if name not in known]
        require(not unknown, f"{node['state']} has no fields {unknown}")
        fields = {name: self.value(value) for name, value in node["fields"].items()}
        if not dataclasses.is_dataclass(cls):
            return cls(**fields)
        late = [field.name for field in dataclasses.fields(cls) if not field.init]
        made = cls(**{name: value for name, value in fields.items() if name not in late})
        vars(made).update({name: fields[name] for name in late if name in fields})
        return made

    @staticmethod
    def _dtype(text: str) -> np.dtype[Any]:
        require(DTYPE.fullmatch(text), f"there is no type {text!r}")
        return np.dtype(text)


def random_state_of(drawn: dict[str, Any]) -> np.random.RandomState:
    """Return random numbers that go on from a state."""
    key, position = drawn["state"]["key"], drawn["state"]["pos"]
    require(drawn["bit_generator"] == "MT19937", "its random numbers are not MT19937's")
    require(
        key.shape == (624,) and key.dtype == np.uint32 and 0 <= position <= 624, "its random numbers are in no state"
    )
    random_state = np.random.RandomState(0)
    random_state.set_state(drawn)
    return random_state
