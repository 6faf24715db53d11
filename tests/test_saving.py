"""A model that was saved and loaded is the model, and goes on like it; what is no such file is refused, unread."""

import hashlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone

import gdl
from gdl import KMeans, MiniBatchKMeans, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SAVED = pathlib.Path(__file__).parent / "data" / "saved"
SMALL = {"hidden_layer_sizes": (6,), "batch_size": 16, "learning_rate_init": 0.02, "random_state": 3}
NETWORKS = {
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd"},
    "adam": {"solver": "adam"},
    "adamw": {"solver": "adamw"},
    "rmsprop": {"solver": "rmsprop"},
    "lbfgs": {"solver": "lbfgs", "tol": 1e-9},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
    "dropout": {"dropout": 0.3},
    "early stopping": {"early_stopping": True, "n_iter_no_change": np.inf, "validation_fraction": 0.3},
    "no shuffle": {"shuffle": False},
    "no intercepts": {"fit_intercept": False},
}


@pytest.fixture
def data(rng):
    X = rng.standard_normal((60, 4))
    return X, (X[:, 0] + X[:, 1] ** 2 > 1).astype(int) + (X[:, 2] > 0.5)


@pytest.fixture
def travel(tmp_path):
    """What comes back from a file."""

    def through_a_file(model):
        model.save(tmp_path / "model.npz")
        assert os.listdir(tmp_path) == ["model.npz"]
        return gdl.load(tmp_path / "model.npz")

    return through_a_file


def assert_same(one, other):
    """Both networks are the same, and so is what they have been through."""
    assert_array_equal(one.parameters_, other.parameters_)
    for name in ("loss_curve_", "validation_scores_", "validation_loss_curve_", "t_", "loss_", "best_loss_"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("best_validation_score_", "learning_rate_", "classes_", "feature_names_in_"):
        assert_array_equal(getattr(one, name, None), getattr(other, name, None))


# Going on.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", NETWORKS)
def test_a_network_goes_on_as_if_there_had_been_no_file(data, travel, case, dtype):
    X, y = data[0].astype(dtype), data[1]
    parameters = {**SMALL, **NETWORKS[case]}
    at_once = MLPClassifier(**parameters, max_iter=6).fit(X, y)
    half = travel(MLPClassifier(**parameters, max_iter=3, warm_start=True).fit(X, y))
    assert half.parameters_.dtype == dtype
    assert_same(half.fit(X, y), at_once)
    assert len(half.loss_curve_) == 6


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle"])
def test_partial_fit_goes_on(data, travel, schedule):
    X, y = data
    parameters = {**SMALL, "learning_rate": schedule, "max_iter": 4, "loss": "huber"}
    at_once = MLPRegressor(**parameters).fit(X, y)
    by_epoch = MLPRegressor(**parameters)
    for _ in range(4):
        by_epoch = travel(by_epoch.partial_fit(X, y))
    assert_same(by_epoch, at_once)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_mini_batches_go_on(data, travel, metric):
    parameters = {"n_clusters": 5, "random_state": 0, "reassignment_ratio": 0.5, "metric": metric}
    at_once, by_step = MiniBatchKMeans(**parameters), MiniBatchKMeans(**parameters)
    for batch in np.split(data[0], 6):
        at_once.partial_fit(batch)
        by_step = travel(by_step.partial_fit(batch))
    assert at_once.n_reassigned_.sum() > 0  # so that the random numbers go on
    assert_array_equal(by_step.cluster_centers_, at_once.cluster_centers_)
    assert_array_equal(by_step.inertia_curve_, at_once.inertia_curve_)
    assert_array_equal(by_step.n_reassigned_, at_once.n_reassigned_)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("offset", [0, 1e5])
def test_clusters_are_the_same(data, travel, metric, offset):
    X = data[0].astype(np.float32) + np.float32(offset)
    model = KMeans(4, random_state=0, metric=metric).fit(X)
    loaded = travel(model)
    for name, value in vars(model).items():
        assert_array_equal(getattr(loaded, name), value, err_msg=name)
    assert_array_equal(loaded.predict(X), model.labels_)
    assert_array_equal(loaded.transform(X), model.transform(X))
    assert loaded.score(X) == model.score(X)


@pytest.mark.compiled
def test_going_on_in_another_process(data, tmp_path):
    X, y = data
    parameters = {**SMALL, "dropout": 0.2, "early_stopping": True, "n_iter_no_change": 99}
    at_once = MLPClassifier(**parameters, max_iter=5).fit(X, y)
    MLPClassifier(**parameters, max_iter=5, warm_start=True).set_params(max_iter=2).fit(X, y).save(tmp_path / "half")
    np.savez(tmp_path / "data.npz", X=X, y=y)
    code = (
        "import sys, numpy, gdl; data = numpy.load('data.npz'); model = gdl.load('half')\n"
        "model.set_params(max_iter=3).fit(data['X'], data['y']).save('whole')"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path)
    assert_same(gdl.load(tmp_path / "whole"), at_once)


# What comes back.


def test_views_stay_views_and_what_is_shared_stays_shared(data, travel):
    X, y = data
    model = travel(MLPClassifier(**SMALL, max_iter=3, validation_fraction=0.3, early_stopping=True).fit(X, y))
    assert np.shares_memory(model.coefs_[0], model.parameters_)
    assert np.shares_memory(model.intercepts_[-1], model.parameters_)
    assert model.loss_curve_ is model._training.loss_curve
    assert model.validation_scores_ is model._training.validation_scores
    assert model.classes_ is model._target.classes
    model.predict(X)
    model.parameters_[:] = 0
    assert_allclose(model.predict_proba(X), 1 / 3)
    stream = travel(MiniBatchKMeans(3, batch_size=20, random_state=0).fit(X))
    assert stream.cluster_centers_ is stream._stream.centers


CLASSES = {
    "str": np.array(["no", "perhaps", "yes ä"]),
    "object": np.array(["no", "perhaps", "yes ä"], object),
    "int": np.array([-3, 5, 2**40]),
    "small int": np.array([1, 2, 3], np.uint8),
    "float": np.array([1.0, 2.0, 3.0]),
    "bool": np.array([False, True]),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_labels_keep_their_type(data, travel, kind):
    X, classes = data[0], CLASSES[kind]
    model = MLPClassifier(**SMALL, max_iter=2).partial_fit(X, classes[np.arange(60) % len(classes)], classes=classes)
    loaded = travel(model)
    assert loaded.classes_.dtype == model.classes_.dtype
    assert [type(label) for label in loaded.classes_] == [type(label) for label in model.classes_]
    assert_array_equal(loaded.predict(X), model.predict(X))


def test_names_of_features(data, travel):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(data[0], columns=["a", "b", "c", "d ü"])
    for model in (KMeans(2, random_state=0).fit(X), MLPClassifier(**SMALL, max_iter=1).fit(X, data[1])):
        loaded = travel(model)
        assert loaded.feature_names_in_.tolist() == ["a", "b", "c", "d ü"]
        assert_array_equal(loaded.predict(X), model.predict(X))
        with pytest.raises(ValueError, match="feature names"):
            loaded.predict(X[["b", "a", "c", "d ü"]])


PARAMETERS = {
    "hidden_layer_sizes": [(), (3, 4), [5], 6, np.array([2, 3]), np.int64(7)],
    "activation": ["tanh", ["relu"], ("elu",)],
    "alpha": [0, 0.1, np.float32(0.1), np.float64(1e-300), np.float16(0.5)],
    "n_iter_no_change": [10, np.inf, np.int32(5)],
    "max_grad_norm": [None, 5e-324],
    "verbose": [False, True, 1, np.True_],
    "random_state": [None, 0, 2**32 - 1, np.int64(3)],
    "class_weight": [None, "balanced", {0: 1.0, 1: 2}, {"a": 0.5}, {1.5: 1, True: 2, (1, "b"): None}],
    "init": ["he_normal", np.linspace(0, 1, 5, dtype=np.float32), [0.1, 0.2]],
    "solver": [np.str_("adam")],
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_keep_their_value_and_type(travel, name):
    for value in PARAMETERS[name]:
        loaded = travel(MLPClassifier(**{name: value})).get_params()
        assert_array_equal(loaded[name], value)
        assert type(loaded[name]) is type(value)
        assert getattr(loaded[name], "dtype", None) == getattr(value, "dtype", None)
        del loaded[name]
        default = MLPClassifier().get_params()
        del default[name]
        assert loaded == default


@pytest.mark.parametrize("model", [MLPClassifier(3), MLPRegressor(alpha=1), KMeans(4), MiniBatchKMeans(5)])
def test_a_model_that_has_not_learned(travel, model):
    loaded = travel(model)
    assert type(loaded) is type(model)
    assert vars(loaded) == vars(model)
    assert clone(loaded).get_params() == model.get_params()


def test_random_numbers_go_on(travel):
    random_state = np.random.RandomState(5)
    random_state.standard_normal()  # leaves a second one for the next call
    assert random_state.get_state()[3] == 1
    loaded = travel(MLPClassifier(random_state=random_state)).random_state
    assert_array_equal(loaded.standard_normal(5), random_state.standard_normal(5))
    assert_array_equal(loaded.randint(0, 2**31, 700), random_state.randint(0, 2**31, 700))


def test_a_random_state_that_was_shared_is_shared(data, travel):
    model = travel(MLPClassifier(**{**SMALL, "random_state": np.random.RandomState(1)}, max_iter=1).fit(*data))
    assert model.random_state is model._training.random_state


def test_global_random_numbers_are_not_taken_along(data, travel):
    model = MLPClassifier(**{**SMALL, "random_state": None}, max_iter=1, warm_start=True).fit(*data)
    loaded = travel(model)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    loaded.fit(*data)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert_array_equal(model.fit(*data).parameters_, loaded.parameters_)


class Silent:
    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context): ...
    def on_fit_task_end(self, estimator, context): ...


def test_callbacks_are_not_stored(data, travel):
    model = MLPClassifier(**SMALL, max_iter=1).set_callbacks(Silent()).fit(*data)
    assert not hasattr(travel(model), "_skl_callbacks")


def test_scikit_learns_settings_are(data, travel):
    with config_context(enable_metadata_routing=True):
        model = KMeans(3).set_output(transform="pandas").set_fit_request(sample_weight=True)
        loaded = travel(model)
        assert loaded._get_metadata_request().fit.requests == {"sample_weight": True}
    pandas = pytest.importorskip("pandas")
    assert isinstance(loaded.fit(data[0]).transform(data[0]), pandas.DataFrame)


def test_numpy_opens_the_file(data, tmp_path):
    model = MLPClassifier(**SMALL, max_iter=2).fit(*data)
    model.save(tmp_path / "model")
    with np.load(tmp_path / "model", allow_pickle=False) as arrays:
        header = json.loads(arrays["gdl"].item())
        assert_array_equal(arrays["_parameters"], model.parameters_)
        assert all(arrays[name].dtype != object for name in arrays)
    assert header["format"] == 1
    assert header["model"] == "MLPClassifier"
    assert header["gdl"] == gdl.__version__
    assert header["numpy"] == np.__version__
    assert header["parameters"]["batch_size"] == 16
    json.dumps(header, allow_nan=False)  # what other languages read


def test_the_same_model_makes_the_same_file(data, tmp_path):
    model = MLPClassifier(**SMALL, max_iter=2).fit(*data)
    model.save(tmp_path / "one")
    gdl.load(tmp_path / "one").save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_files_of_this_version():
    """Later versions must read them; ``tests/make_saved_models.py`` made them."""
    expected = json.loads((SAVED / "expected.json").read_text())
    assert sorted(expected["models"]) == sorted(path.name for path in SAVED.glob("*.npz"))
    for name, methods in expected["models"].items():
        model = gdl.load(SAVED / name)
        for method, values in methods.items():
            found = getattr(model, method)(np.array(expected["X"]))
            if np.asarray(values).dtype.kind == "f":
                assert_allclose(found, values, rtol=1e-5, atol=1e-6, err_msg=f"{name} {method}")
            else:
                assert found.tolist() == values, (name, method)


def test_files_of_this_version_go_on(data):
    X = np.random.default_rng(0).standard_normal((24, 3))
    model = gdl.load(SAVED / "0.1-classifier-early-stopping.npz")
    n_epochs = len(model.loss_curve_)
    model.fit(X, np.arange(24) % 2 == 0)
    assert len(model.loss_curve_) == n_epochs + model.n_iter_


# What cannot be saved.


class MyRegressor(MLPRegressor):
    pass


def itself():
    values = [1]
    values.append(values)
    return values


def test_what_a_file_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "model"
    MLPClassifier().save(path)
    before = path.read_bytes()
    cases = [
        (KMeans(init=lambda X, k, random_state: X[:k]), "init=<function .* cannot be saved: it is a function"),
        (KMeans(random_state=np.random.default_rng(0)), "random_state=Generator.* it is a Generator"),
        (KMeans(random_state=np.random.RandomState(np.random.PCG64(0))), "PCG64, not MT19937"),
        (MLPClassifier(init=np.array([object()])), "init=.* array of objects"),
        (MLPClassifier(alpha=np.longdouble(1)), "alpha=.* type float128"),
        (MLPClassifier(class_weight={0: {1j}}), r"class_weight\.0=\{1j\} cannot be saved: it is a set"),
        (MLPClassifier(hidden_layer_sizes=itself()), "it holds itself"),
        (MyRegressor(), r"but this is a MyRegressor, which gdl\.load does not know; pickle it\."),
    ]
    for model, message in cases:
        with pytest.raises(TypeError, match=message):
            model.save(path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["model"]


def test_a_model_that_was_broken_is_not_saved(data, tmp_path):
    model = KMeans(2, random_state=0).fit(data[0])
    model.cluster_centers_ = model.cluster_centers_[:, :2]
    with pytest.raises(ValueError, match="cannot be saved: its centers do not fit its features"):
        model.save(tmp_path / "model")
    assert os.listdir(tmp_path) == []


# What is no such file.


@pytest.fixture
def saved(data, tmp_path):
    """The bytes of a file."""
    MLPClassifier(**SMALL, max_iter=2, early_stopping=True).fit(*data).save(tmp_path / "saved")
    return (tmp_path / "saved").read_bytes()


def load_bytes(content, path):
    path.write_bytes(content)
    return gdl.load(path)


def test_any_flipped_bit_is_found(saved, tmp_path, rng):
    path = tmp_path / "flipped"
    places = {*range(0, len(saved), 11), *range(200), *range(len(saved) - 200, len(saved))}
    for place in sorted(places):
        content = bytearray(saved)
        content[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(ValueError, match=r"flipped is damaged: its bytes do not match|flipped is no file of gdl"):
            load_bytes(content, path)


def test_a_file_that_was_cut_off_or_grew_is_found(saved, tmp_path):
    for size in {*range(0, len(saved), 101), *range(100), *range(len(saved) - 100, len(saved))}:
        with pytest.raises(ValueError, match=r"is damaged|is no file of gdl"):
            load_bytes(saved[:size], tmp_path / "cut")
    with pytest.raises(ValueError, match=r"damaged: its bytes.*it was cut off or changed; load another copy of it\."):
        load_bytes(saved[:-1], tmp_path / "cut")
    with pytest.raises(ValueError, match="damaged"):
        load_bytes(saved + b"\0", tmp_path / "grown")


def archive(**members):
    content = io.BytesIO()
    np.savez(content, **members)
    return content.getvalue()


def plain_zip():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("a.txt", "text")
    return content.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"text\n" * 99, bytes(range(256)), archive(a=np.ones(3)), plain_zip()], ids=range(6)
)
def test_foreign_files_are_refused(content, tmp_path):
    with pytest.raises(ValueError, match=r"model is no file of gdl; pass one that save\(\) of a gdl model wrote\."):
        load_bytes(content, tmp_path / "model")


def test_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(FileNotFoundError, match="none"):
        gdl.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        gdl.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="none"):
        KMeans().save(tmp_path / "none" / "model")
    with pytest.raises(IsADirectoryError, match="is a directory; pass the path of a file"):
        KMeans().save(tmp_path)
    with pytest.raises(TypeError):
        gdl.load(3.5)


def forge(content, path, change=None, **members):
    """Write a file with other content and the digest that belongs to it."""
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    header = json.loads(np.load(io.BytesIO(parts["gdl.npy"])).item())
    if change is not None:
        change(header)
    text = io.BytesIO()
    np.save(text, np.array(json.dumps(header).encode()))
    parts["gdl.npy"] = text.getvalue()
    parts.update({f"{name}.npy": member for name, member in members.items()})
    forged = io.BytesIO()
    with zipfile.ZipFile(forged, "w") as target:
        for name, part in parts.items():
            target.writestr(name, part)
        target.comment = b"gdl sha256 " + b"0" * 64
    body = forged.getvalue()[:-64]
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode())
    return path


def test_forging_works(saved, tmp_path):
    assert isinstance(gdl.load(forge(saved, tmp_path / "forged")), MLPClassifier)


def test_a_newer_file_says_so(saved, tmp_path):
    path = forge(saved, tmp_path / "new", lambda header: header.update(format=2, gdl="7.0", model="Oracle"))
    with pytest.raises(
        ValueError, match=r"new is of format 2, written by gdl 7\.0, but this gdl reads formats up to 1; update"
    ):
        gdl.load(path)


def test_an_older_file_lacks_what_came_later(saved, tmp_path):
    def forget(header):
        del header["attributes"]["_training"]["fields"]["dropout_seed"]
        del header["parameters"]["dropout"]

    loaded = gdl.load(forge(saved, tmp_path / "old", forget))
    assert loaded._training.dropout_seed == 0
    assert loaded.dropout == 0.0


def npy(shape, descr="<f8", data=b"\0" * 80):
    """A member that claims what its data do not hold."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": descr, "fortran_order": False, "shape": shape})
    return content.getvalue() + data


def pickled():
    content = io.BytesIO()
    np.save(content, np.array([Silent()]), allow_pickle=True)
    return content.getvalue()


def attributes(**changes):
    return lambda header: header["attributes"].update(changes)


def training(**changes):
    return lambda header: header["attributes"]["_training"]["fields"].update(changes)


LIES = {
    "huge array": (None, {"_parameters": npy((10**13,))}),
    "beyond all sizes": (None, {"_parameters": npy((2**62, 2**62))}),
    "negative": (None, {"_parameters": npy((-1, 10))}),
    "nothing, many times": (None, {"_parameters": npy((10**15,), "|S0", b"")}),
    "pickled": (None, {"_parameters": pickled()}),
    "short": (None, {"_parameters": npy((10,))}),
    "other type": (None, {"_parameters": npy((10,), "<c8")}),
    "records": (None, {"_parameters": npy((10,), [("a", "<f8")])}),
    "no array": (None, {"_parameters": b"\x93NUMPY\x01\x00\xff\xff{"}),
    "another version": (None, {"_parameters": b"\x93NUMPY\x07\x00\x01\x00{"}),
    "objects": (attributes(x={"objects": [1, 2], "shape": [10**12]}), {}),
    "a member that is not there": (attributes(_layers={"array": "nothing"}), {}),
    "no kind": (attributes(x={}), {}),
    "unknown kind": (attributes(x={"eval": "print()"}), {}),
    "unknown class": (attributes(x={"state": "subprocess.Popen", "fields": {"args": "true"}}), {}),
    "unknown field": (training(speed=3), {}),
    "no field": (lambda header: header["attributes"]["_training"]["fields"].pop("order"), {}),
    "bare list": (attributes(x=[1, 2]), {}),
    "forward reference": (attributes(x={"same": 10**6}), {}),
    "holds itself": (attributes(x={"list": [{"same": -1}]}), {}),
    "unhashable": (attributes(x={"dict": [[{"list": []}, 1]]}), {}),
    "a type": (attributes(x={"number": ["O", 1]}), {}),
    "not a number": (attributes(x={"number": ["<f8", {"list": []}]}), {}),
    "array.array": (attributes(x={"numbers": ["d", "_layers"]}), {}),
    "unknown parameter": (lambda header: header["parameters"].update(speed=1), {}),
    "attribute of the class": (attributes(__class__=3), {}),
    "a parameter twice": (attributes(alpha=3), {}),
    "unknown model": (lambda header: header.update(model="Pipeline"), {}),
    "no model": (lambda header: header.update(model=["KMeans"]), {}),
    "no format": (lambda header: header.update(format="1"), {}),
    "format 0": (lambda header: header.update(format=0), {}),
    "no attributes": (lambda header: header.pop("attributes"), {}),
    "a device": (attributes(_device="reference.clustering"), {}),
    "no layers": (attributes(_layers={"tuple": []}), {}),
    "other layers": (None, {"_layers": npy((2, 6), "|u1", bytes([4, 99, 1, 0, 24, 0, 6, 3, 10, 30, 48, 6]))}),
    "other rows": (training(order={"array": "_training.step_losses"}), {}),
    "another step": (training(position=10**6), {}),
    "other moments": (training(moments={"array": "_layers"}), {}),
    "no random numbers": (training(random_state={"random_state": {"dict": [["bit_generator", "MT19937"]]}}), {}),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_whatever_their_digest(saved, tmp_path, lie):
    change, members = LIES[lie]
    path = forge(saved, tmp_path / "forged", change, **members)
    modules = set(sys.modules)
    with pytest.raises(ValueError, match=r"forged is damaged: .*; load another copy of it\."):
        gdl.load(path)
    assert set(sys.modules) == modules


def test_random_numbers_beyond_their_array_are_refused(saved, tmp_path):
    def move(header):
        drawn = header["attributes"]["_training"]["fields"]["random_state"]["random_state"]["dict"]
        inner = dict(map(tuple, drawn))["state"]["dict"]
        next(pair for pair in inner if pair[0] == "pos")[1] = 10**6

    with pytest.raises(ValueError, match="random numbers are in no state"):
        gdl.load(forge(saved, tmp_path / "forged", move))


def test_a_tree_without_end_is_refused(saved, tmp_path):
    text = b'{"format":1,"model":"KMeans","parameters":{"init":' + b'{"tuple":[' * 10**5 + b"}"
    content = io.BytesIO()
    np.save(content, np.array(text))
    with pytest.raises(ValueError, match="damaged"):
        gdl.load(forge(saved, tmp_path / "forged", None, gdl=content.getvalue()))


def test_what_is_compressed_could_be_anything(saved, tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved)) as source, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
        target.comment = b"gdl sha256 " + b"0" * 64
    body = content.getvalue()[:-64]
    with pytest.raises(ValueError, match="is compressed"):
        load_bytes(body + hashlib.sha256(body).hexdigest().encode(), tmp_path / "small")


# The file is whole, or the old one.


def test_an_error_amid_writing_leaves_the_old_file(data, tmp_path, monkeypatch):
    path = tmp_path / "model"
    KMeans(3).save(path)
    before = path.read_bytes()

    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    model = KMeans(2).fit(data[0])
    for place in ("numpy.lib.format.write_array", "os.fsync", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(place, no_space)
            with pytest.raises(OSError, match="No space left"):
                model.save(path)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["model"]


def test_file_systems_without_nameless_files(data, tmp_path, monkeypatch):
    monkeypatch.delattr("os.O_TMPFILE", raising=False)
    KMeans(3).save(tmp_path / "model")
    test_an_error_amid_writing_leaves_the_old_file(data, tmp_path, monkeypatch)
    assert gdl.load(tmp_path / "model").n_clusters == 3


@pytest.mark.skipif(sys.platform == "win32", reason="limits and modes of files are POSIX's")
def test_a_full_disk(tmp_path):
    KMeans(3).save(tmp_path / "model")
    code = (
        "import resource, signal, numpy, gdl\n"
        "model = gdl.KMeans(init=numpy.zeros((500, 500)))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, 10**5))\n"
        "model.save('model')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert os.listdir(tmp_path) == ["model"]
    assert gdl.load(tmp_path / "model").n_clusters == 3


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_a_process_that_is_killed_leaves_a_whole_file_and_nothing_else(tmp_path):
    KMeans(3).save(tmp_path / "model")
    code = (
        "import numpy, gdl; model = gdl.KMeans(init=numpy.zeros((1000, 1000)))\n"
        "while True: model.save('model'); print(flush=True)"
    )
    for delay in (0.0, 0.005, 0.011, 0.017):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert gdl.load(tmp_path / "model").init.shape == (1000, 1000)
        assert os.listdir(tmp_path) == ["model"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits and modes of files are POSIX's")
def test_modes_and_links_are_kept(tmp_path):
    mask = os.umask(0o027)
    try:
        KMeans(2).save(tmp_path / "model")
        assert (tmp_path / "model").stat().st_mode & 0o777 == 0o640
        (tmp_path / "model").chmod(0o604)
        (tmp_path / "link").symlink_to("model")
        KMeans(3).save(tmp_path / "link")
    finally:
        os.umask(mask)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o604
    assert gdl.load(tmp_path / "model").n_clusters == 3
