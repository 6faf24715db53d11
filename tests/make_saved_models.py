"""Make tests/data/saved anew: a small model of each kind, and beside them what each predicts.

    python -m tests.make_saved_models

Files of a version that was released stay, under the version's name: later versions must read them. Run this only to
add a kind, or while the version is not released yet.
"""

import json
import pathlib
import warnings

import numpy as np

from gdl import KMeans, MiniBatchKMeans, MLPClassifier, MLPRegressor

DIRECTORY = pathlib.Path(__file__).parent / "data" / "saved"
NETWORK = {"hidden_layer_sizes": (4,), "max_iter": 4, "batch_size": 8, "random_state": 0, "warm_start": True}


def models():
    """Name, model and targets of each file."""
    labels = np.array(["a", "b", "c"])[np.arange(24) % 3]
    yield "classifier-adam", MLPClassifier(**NETWORK, dropout=0.2), labels
    yield "classifier-adamw", MLPClassifier(**NETWORK, solver="adamw", class_weight={"a": 2.0}), labels
    yield "classifier-sgd", MLPClassifier(**NETWORK, solver="sgd", learning_rate="invscaling"), np.arange(24) % 2
    yield "classifier-rmsprop", MLPClassifier(**NETWORK, solver="rmsprop", learning_rate="cosine"), labels
    yield "classifier-lbfgs", MLPClassifier(**NETWORK, solver="lbfgs", activation="tanh"), labels
    yield "classifier-early-stopping", MLPClassifier(**NETWORK, early_stopping=True), np.arange(24) % 2 == 0
    yield "classifier-multilabel", MLPClassifier(**NETWORK), np.arange(48).reshape(24, 2) % 3 % 2
    yield "regressor", MLPRegressor(**NETWORK, activation=["gelu"]), np.linspace(-1, 1, 24)
    yield "kmeans", KMeans(3, random_state=0), None
    yield "kmeans-cosine", KMeans(3, metric="cosine", random_state=0), None
    yield "mini-batch-kmeans", MiniBatchKMeans(3, batch_size=8, max_iter=4, random_state=0), None


def outputs(model, X):
    """What a model says of samples, as plain lists."""
    method = next(name for name in ("predict_proba", "transform", "predict") if hasattr(model, name))
    if hasattr(model, "loss") and method == "transform":
        method = "predict"
    return {"predict": model.predict(X).tolist(), method: getattr(model, method)(X).tolist()}


def main():
    """Write all files."""
    warnings.simplefilter("ignore")
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    X = np.random.default_rng(0).standard_normal((24, 3))
    expected = {"X": X[:5].tolist(), "models": {}}
    for number, (name, model, y) in enumerate(models()):
        X_of_model = X.astype(np.float32) if number % 2 else X
        model.fit(X_of_model, y)
        model.save(DIRECTORY / f"0.1-{name}.npz")
        expected["models"][f"0.1-{name}.npz"] = outputs(model, X_of_model[:5])
    (DIRECTORY / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
