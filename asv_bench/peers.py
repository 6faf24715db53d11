"""gdl against the libraries that a user would pick instead, side by side.

    python -m asv_bench.peers dense [--case NAME ...] [--rounds 5]
    python -m asv_bench.peers kmeans [--case NAME ...]    whole fits, k-means++ included
    python -m asv_bench.peers lloyd [--case NAME ...]     iterations only, from the same first centers
    python -m asv_bench.peers predict [--rounds 5]

Every round runs each library once, in turn, on the same data, so that a drift of the machine's speed hits
all of them; a figure is the median over the rounds, a ratio the best peer's median over gdl's (above 1: gdl
is faster). Each library runs in a process of its own. PyTorch runs with one thread, with all and with bound
threads, and the fastest counts, as does faiss; JAX compiles an epoch to one ``lax.scan``; gdl gets no settings. A loss
that is more than 10 % outside the peers' range fails the row. So does an inertia more than 1 % above a peer's (5 %
where each chooses its own first centers), and a peer with an inertia that much above gdl's does not count. Libraries
that are not installed are left out.
"""

import argparse
import functools
import importlib
import importlib.util
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time

import numpy as np

# name: (n_samples, n_features, hidden_layer_sizes, n_classes, batch_size, epochs)
DENSE_CASES = {
    "tiny-4-8-3": (2048, 4, (8,), 3, 32, 20),
    "digits-64-64-10": (1792, 64, (64,), 10, 32, 20),
    "deep-64-64x4-10": (4096, 64, (64, 64, 64, 64), 10, 64, 6),
    "mnist-784-100-10": (8000, 784, (100,), 10, 100, 3),
    "mnist-784-512-10": (8192, 784, (512,), 10, 128, 2),
    "wide-512-1024-100": (8192, 512, (1024,), 100, 256, 2),
}
# name: (n_samples, n_features, n_clusters, kind, iterations)
KMEANS_CASES = {
    "blobs-1M-2-10": (1_000_000, 2, 10, "blobs", 20),
    "blobs-100k-64-100": (100_000, 64, 100, "blobs", 20),
    "uniform-100k-16-256": (100_000, 16, 256, "uniform", 20),
    "uniform-60k-784-10": (60_000, 784, 10, "uniform", 20),
    "uniform-100k-128-1024": (100_000, 128, 1024, "uniform", 20),
    "uniform-2M-3-100": (2_000_000, 3, 100, "uniform", 20),
}
LEARNING_RATE = 0.01


def installed(module):
    return importlib.util.find_spec(module) is not None


def dense_data(case, seed=0):
    n, d, _, k, _, _ = case
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(np.float32)
    teacher = rng.standard_normal((d, k)).astype(np.float32)
    y = (X @ teacher).argmax(1)
    return X, y


def dense_gdl(case, X, y):
    from gdl import MLPClassifier

    _, _, hidden, _, batch, epochs = case
    model = MLPClassifier(
        hidden,
        activation="relu",
        solver="sgd",
        momentum=0.0,
        nesterovs_momentum=False,
        alpha=0.0,
        learning_rate_init=LEARNING_RATE,
        batch_size=batch,
        max_iter=epochs,
        tol=0.0,
        n_iter_no_change=10**6,
        random_state=0,
    )

    def fit():
        model.fit(X, y)
        return model.loss_

    return fit


def dense_sklearn(case, X, y):
    from sklearn.neural_network import MLPClassifier

    _, _, hidden, _, batch, epochs = case
    model = MLPClassifier(
        hidden,
        activation="relu",
        solver="sgd",
        momentum=0.0,
        nesterovs_momentum=False,
        alpha=0.0,
        learning_rate_init=LEARNING_RATE,
        batch_size=batch,
        max_iter=epochs,
        tol=0.0,
        n_iter_no_change=10**6,
        random_state=0,
    )

    def fit():
        model.fit(X, y)
        return model.loss_

    return fit


def dense_torch(case, X, y):
    import torch

    n, d, hidden, k, batch, epochs = case
    Xt, yt = torch.from_numpy(X), torch.from_numpy(y)
    sizes = (d, *hidden, k)

    def fit():
        torch.manual_seed(0)
        layers = []
        for i, (a, b) in enumerate(itertools.pairwise(sizes)):
            layers.append(torch.nn.Linear(a, b))
            if i < len(sizes) - 2:
                layers.append(torch.nn.ReLU())
        net = torch.nn.Sequential(*layers)
        optimizer = torch.optim.SGD(net.parameters(), lr=LEARNING_RATE)
        criterion = torch.nn.CrossEntropyLoss()
        for _ in range(epochs):
            order = torch.randperm(n)
            total = 0.0
            for s in range(0, n, batch):
                rows = order[s : s + batch]
                optimizer.zero_grad(set_to_none=True)
                loss = criterion(net(Xt[rows]), yt[rows])
                loss.backward()
                optimizer.step()
                total += loss.detach()
        return float(total) / math.ceil(n / batch)

    return fit


def dense_jax(case, X, y):
    import jax
    import jax.numpy as jnp

    n, d, hidden, k, batch, epochs = case
    sizes = (d, *hidden, k)
    Xj, yj = jnp.asarray(X), jnp.asarray(y)
    steps = n // batch

    def forward(params, x):
        for i, (W, b) in enumerate(params):
            x = x @ W + b
            if i < len(params) - 1:
                x = jax.nn.relu(x)
        return x

    def loss(params, x, t):
        return -jnp.take_along_axis(jax.nn.log_softmax(forward(params, x)), t[:, None], 1).mean()

    @jax.jit
    def epoch(params, order):
        def step(params, rows):
            value, grads = jax.value_and_grad(loss)(params, Xj[rows], yj[rows])
            return jax.tree.map(lambda p, g: p - LEARNING_RATE * g, params, grads), value

        params, values = jax.lax.scan(step, params, order)
        return params, values.mean()

    def fit():
        rng = np.random.default_rng(0)
        params = []
        for a, b in itertools.pairwise(sizes):
            bound = math.sqrt(6 / (a + b))
            params.append((jnp.asarray(rng.uniform(-bound, bound, (a, b)).astype(np.float32)), jnp.zeros(b)))
        for _ in range(epochs):
            order = jnp.asarray(rng.permutation(n)[: steps * batch].reshape(steps, batch))
            params, value = epoch(params, order)
        return float(jax.block_until_ready(value))

    return fit


DENSE_ENGINES = {"gdl": dense_gdl, "sklearn": dense_sklearn, "torch": dense_torch, "jax": dense_jax}


def kmeans_data(case, seed=0):
    n, d, k, kind, _ = case
    if kind == "blobs":
        from sklearn.datasets import make_blobs

        return (make_blobs(n, d, centers=k, cluster_std=2.0, random_state=seed)[0].astype(np.float32),)
    return (np.random.default_rng(seed).random((n, d), dtype=np.float32),)


def starting_centers(case, X):
    return X[np.random.default_rng(1).choice(len(X), case[2], replace=False)]


def kmeans_of(module, case, X, init="k-means++"):
    estimator = importlib.import_module(module).KMeans
    settings = {"init": init, "n_init": 1, "max_iter": case[4], "tol": 0.0, "random_state": 0}
    return lambda: estimator(case[2], **settings).fit(X).inertia_


def lloyd_of(module, case, X):
    return kmeans_of(module, case, X, starting_centers(case, X))


def lloyd_faiss(case, X):
    import faiss

    centers = starting_centers(case, X)

    def fit():
        model = faiss.Kmeans(case[1], case[2], niter=case[4], max_points_per_centroid=10**9, min_points_per_centroid=1)
        model.train(X, init_centroids=centers)
        distances, _ = model.index.search(X, 1)  # labels and inertia, as the others return
        return float(distances.sum(dtype=np.float64))

    return fit


KMEANS_MODULES = {"gdl": "gdl", "sklearn": "sklearn.cluster", "sklearnex": "sklearnex.cluster"}
KMEANS_ENGINES = {name: functools.partial(kmeans_of, module) for name, module in KMEANS_MODULES.items()}
LLOYD_ENGINES = {name: functools.partial(lloyd_of, module) for name, module in KMEANS_MODULES.items()}
LLOYD_ENGINES["faiss"] = lloyd_faiss

# kind: cases, engines, data, and by how much results may differ
KINDS = {
    "dense": (DENSE_CASES, DENSE_ENGINES, dense_data, 1.1),
    "kmeans": (KMEANS_CASES, KMEANS_ENGINES, kmeans_data, 1.05),
    "lloyd": (KMEANS_CASES, LLOYD_ENGINES, kmeans_data, 1.01),
}


def predict_calls():
    """Rows to predict, and each installed library's public call that predicts them."""
    from sklearn.neural_network import MLPClassifier as Sk

    case = DENSE_CASES["digits-64-64-10"]
    X, y = dense_data(case)
    calls = {}
    sk = Sk((64,), max_iter=2).fit(X, y)
    calls["sklearn"] = sk.predict
    if installed("gdl"):
        from gdl import MLPClassifier

        calls["gdl"] = MLPClassifier((64,), max_iter=2).fit(X, y).predict
    if installed("torch"):
        import torch

        torch.set_num_threads(1)
        net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)).eval()

        def torch_predict(x):
            with torch.inference_mode():
                return net(torch.from_numpy(x)).argmax(1).numpy()

        calls["torch"] = torch_predict
    if installed("onnxruntime") and installed("skl2onnx"):
        import onnxruntime
        from skl2onnx import to_onnx

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        graph = to_onnx(Sk((64,), max_iter=2).fit(X, y), X[:1], options={"zipmap": False})
        runtime = onnxruntime.InferenceSession(graph.SerializeToString(), settings)
        calls["onnxruntime"] = lambda x: runtime.run(None, {"X": x})
    return X, calls


def predict_race(X, calls, n, rounds):
    """Median seconds of a call of each library on ``n`` rows, rounds taken in turn."""
    x = np.ascontiguousarray(X[:n])
    samples = {name: [] for name in calls}
    for call in calls.values():
        call(x)
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(200):
                call(x)
            samples[name].append((time.perf_counter() - start) / 200)
    return {name: statistics.median(s) for name, s in samples.items()}


def predict_rows(rounds):
    """Print microseconds of one predict call on 1 and on 64 rows, whole public call."""
    X, calls = predict_calls()
    for n in (1, 64):
        medians = predict_race(X, calls, n, rounds)
        row = {"kind": "predict", "rows": n} | {f"{name}_us": round(s * 1e6, 2) for name, s in medians.items()}
        if "gdl" in medians:
            row["ratio"] = round(min(s for name, s in medians.items() if name != "gdl") / medians["gdl"], 3)
        print("  ".join(f"{k}={v}" for k, v in row.items()), flush=True)


ONE, BOUND = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}, {"OMP_PROC_BIND": "true"}
VARIANTS = {"torch": [ONE, {}, BOUND], "faiss": [{}, BOUND]}


def work(kind, name, engine):
    """Run in a process of its own: one fit for each line read, answered by its seconds and its loss or inertia."""
    cases, engines, data, _ = KINDS[kind]
    fit = engines[engine](cases[name], *data(cases[name]))
    for _ in sys.stdin:
        start = time.perf_counter()
        value = fit()
        print(json.dumps([time.perf_counter() - start, float(value)]), flush=True)


class Worker:
    def __init__(self, kind, name, engine, environment):
        self.engine, self.seconds = engine, []
        command = [sys.executable, "-W", "ignore", "-m", "asv_bench.peers", kind, "--case", name, "--work", engine]
        self.process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def fit(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.engine} failed")
        seconds, self.value = json.loads(line)
        return seconds

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def race(kind, name, engines, rounds):
    """Median seconds and last result of each engine's fastest variant, rounds taken in turn; of the first fit if 0."""
    workers = [Worker(kind, name, engine, variant) for engine in engines for variant in VARIANTS.get(engine, [{}])]
    for worker in workers:
        first = worker.fit()  # compilation and caches stay out of the figures
        worker.seconds += [] if rounds else [first]
    for _ in range(rounds):
        for worker in workers:
            worker.seconds.append(worker.fit())
    best = {}
    for worker in workers:
        worker.close()
        median = statistics.median(worker.seconds)
        if worker.engine not in best or median < best[worker.engine][0]:
            best[worker.engine] = median, worker.value
    return best


def reached_as_much(kind, value, peers):
    """Whether gdl's loss is among its peers', or its inertia not above theirs, but for what is allowed."""
    slack, values = KINDS[kind][3], [other for _, other in peers.values()]
    if not values:
        return True
    least, most = (min(values) / slack, max(values)) if kind == "dense" else (0.0, min(values))  # none is too low
    return least <= value <= slack * most


def peers_of_equal_work(kind, value, peers):
    """Return the peers that count: with clusters, those whose inertia is not above gdl's."""
    return {
        engine: result for engine, result in peers.items() if kind == "dense" or result[1] <= KINDS[kind][3] * value
    }


def compare(kind, names, rounds):
    """Print a row for each case, and the mean of the ratios; rows of other work count as failures, and not there."""
    engines = [engine for engine in KINDS[kind][1] if installed(engine)]
    ratios, others = [], []
    for name in names:
        best = race(kind, name, engines, rounds)
        row = f"{name}  " + "  ".join(f"{engine} {s * 1e3:.2f} ms ({v:.6g})" for engine, (s, v) in best.items())
        seconds, value = best.pop("gdl")
        peers = peers_of_equal_work(kind, value, best)
        if not reached_as_much(kind, value, best):
            others.append(name)
            row += "  other work"
        elif peers:
            ratios.append(min(median for median, _ in peers.values()) / seconds)
            row += f"  ratio {ratios[-1]:.2f}"
        print(row, flush=True)
    if ratios:
        print(f"geometric mean {statistics.geometric_mean(ratios):.2f}, worst {min(ratios):.2f}")
    if others:
        raise SystemExit(f"gdl did other work than its peers: {', '.join(others)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[*KINDS, "predict"])
    parser.add_argument("--case", nargs="*", choices=[*DENSE_CASES, *KMEANS_CASES])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.kind, options.case[0], options.work)
    elif options.kind == "predict":
        predict_rows(options.rounds)
    else:
        compare(options.kind, options.case or list(KINDS[options.kind][0]), options.rounds)


if __name__ == "__main__":
    main()
