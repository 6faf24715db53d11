"""What kernels compute, once more: plain Python, one number or one row at a time, nothing from gdl."""

import itertools
import math


def softplus(z):
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def logistic(z):
    return 1 / (1 + math.exp(-z)) if z > 0 else math.exp(z) / (1 + math.exp(z))


# Each activation as a function of one z; softmax, of a row, is below.
ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": lambda z: max(z, 0.0),
    "leaky_relu": lambda z: max(z, 0.01 * z),
    "logistic": logistic,
    "tanh": math.tanh,
    "elu": lambda z: z if z > 0 else math.expm1(z),
    "softplus": softplus,
    "gelu": lambda z: 0.5 * z * math.erfc(-z / math.sqrt(2)),
    "silu": lambda z: z * logistic(z),
    "exp": math.exp,
}


def softmax(z):
    shares = [math.exp(value - max(z)) for value in z]
    return [share / math.fsum(shares) for share in shares]


def _log_loss(p, y):
    return -math.log(p[int(y[0])])


def _binary_log_loss(p, y):
    return -sum(yk * math.log(pk) + (1 - yk) * math.log(1 - pk) for pk, yk in zip(p, y, strict=True))


def _squared_error(p, y):
    return sum((pk - yk) ** 2 for pk, yk in zip(p, y, strict=True)) / (2 * len(p))


def _poisson(p, y):
    return sum((yk * math.log(yk / pk) if yk else 0) - yk + pk for pk, yk in zip(p, y, strict=True))


def _absolute_error(p, y):
    return sum(abs(pk - yk) for pk, yk in zip(p, y, strict=True)) / len(p)


def _huber(p, y, delta):
    residuals = [abs(pk - yk) for pk, yk in zip(p, y, strict=True)]
    return sum(r * r / 2 if r <= delta else delta * r - delta**2 / 2 for r in residuals) / len(p)


def _quantile(p, y, level):
    return sum(max(level * (yk - pk), (level - 1) * (yk - pk)) for pk, yk in zip(p, y, strict=True)) / len(p)


# The loss of one sample: outputs p, truth y, then the loss's parameter if it has one.
LOSSES = {
    "log_loss": _log_loss,
    "binary_log_loss": _binary_log_loss,
    "squared_error": _squared_error,
    "poisson": _poisson,
    "absolute_error": _absolute_error,
    "huber": _huber,
    "quantile": _quantile,
}


def _sgd(w, g, memory, t, *, learning_rate, **_):
    return w - learning_rate * g


def _momentum(w, g, memory, t, *, learning_rate, momentum, **_):
    memory[0] = momentum * memory[0] - learning_rate * g
    return w + memory[0]


def _nesterov(w, g, memory, t, *, learning_rate, momentum, **_):
    memory[0] = momentum * memory[0] - learning_rate * g
    return w + momentum * memory[0] - learning_rate * g


def _adam(w, g, memory, t, *, learning_rate, beta_1, beta_2, epsilon, **_):
    memory[0] = beta_1 * memory[0] + (1 - beta_1) * g
    memory[1] = beta_2 * memory[1] + (1 - beta_2) * g * g
    mean, square = memory[0] / (1 - beta_1**t), memory[1] / (1 - beta_2**t)
    return w - learning_rate * mean / (math.sqrt(square) + epsilon / math.sqrt(1 - beta_2**t))


def _adamw(w, g, memory, t, *, learning_rate, decay, **settings):
    return _adam(w, g, memory, t, learning_rate=learning_rate, **settings) - learning_rate * decay * w


def _rmsprop(w, g, memory, t, *, learning_rate, beta_2, epsilon, **_):
    memory[0] = beta_2 * memory[0] + (1 - beta_2) * g * g
    return w - learning_rate * g / (math.sqrt(memory[0]) + epsilon)


# The weight after step t = 1, 2, ... of one weight w with gradient g; memory (two numbers, first 0) is updated.
OPTIMIZERS = {
    "sgd": _sgd,
    "momentum": _momentum,
    "nesterov": _nesterov,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
}

GOLDEN = 0x9E3779B97F4A7C15


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def splitmix64(state):
    """The endless stream of SplitMix64 (Steele, Lea & Flood 2014) from a state."""
    while True:
        state = (state + GOLDEN) % 2**64
        yield mix(state)


def dropout_mask(seed, stream, rate, size):
    numbers = splitmix64(mix((seed + stream * GOLDEN) % 2**64))
    return [1 / (1 - rate) if (next(numbers) >> 11) * 2.0**-53 >= rate else 0.0 for _ in range(size)]


def central_difference(f, x, step=1e-5):
    """Numerical gradient of ``f()``, a number that depends on the vector x."""
    gradient = []
    for index in range(len(x)):
        value = x[index]
        x[index] = value + step
        above = f()
        x[index] = value - step
        below = f()
        x[index] = value
        gradient.append((above - below) / (2 * step))
    return gradient


# k-means: X is a list of rows, each a list of numbers; weights are a list of numbers.


def squared_distance(x, c):
    return math.fsum((xj - cj) ** 2 for xj, cj in zip(x, c, strict=True))


def nearest(x, centers):
    """Number of the nearest center, the lowest of equal ones."""
    distances = [squared_distance(x, c) for c in centers]
    return distances.index(min(distances))


def mean_and_variance(column):
    mean = math.fsum(column) / len(column)
    return mean, math.fsum((x - mean) ** 2 for x in column) / len(column)


def cluster_sums(X, weights, shift, labels, n_clusters):
    """Weighted sum of the shifted samples of each cluster, and the sum of their weights."""
    sums, totals = [], []
    for k in range(n_clusters):
        rows = [i for i, label in enumerate(labels) if label == k]
        sums.append([math.fsum(weights[i] * (X[i][j] - shift[j]) for i in rows) for j in range(len(shift))])
        totals.append(math.fsum(weights[i] for i in rows))
    return sums, totals


def inertia(X, weights, centers, labels):
    return math.fsum(w * squared_distance(x, centers[k]) for x, w, k in zip(X, weights, labels, strict=True))


def unit(x):
    length = math.sqrt(math.fsum(xj * xj for xj in x))
    return [xj / length for xj in x] if length else list(x)


def mini_batch_update(X, weights, labels, centers, counts):
    """Each sample in turn moves its center to the weighted mean of all that the center has seen."""
    centers, counts = [list(c) for c in centers], list(counts)
    for x, w, k in zip(X, weights, labels, strict=True):
        counts[k] += w
        if w:
            centers[k] = [c + w / counts[k] * (xj - c) for c, xj in zip(centers[k], x, strict=True)]
    return centers, counts


def spherical_k_means(X, weights, centers):
    """Until no label changes: the center of largest cosine, then the direction of the weighted mean."""
    X, centers, labels = [unit(x) for x in X], [unit(c) for c in centers], None
    while True:
        cosines = [[math.fsum(xj * cj for xj, cj in zip(x, c, strict=True)) for c in centers] for x in X]
        before, labels = labels, [row.index(max(row)) for row in cosines]
        if labels == before:
            inertia = math.fsum(w * (1 - max(row)) for w, row in zip(weights, cosines, strict=True))
            return centers, labels, inertia
        sums, _ = cluster_sums(X, weights, [0.0] * len(X[0]), labels, len(centers))
        centers = [unit(s) for s in sums]


def potential(X, weights, closest, candidate):
    """What is left of the weighted squared distances to the closest seed if a candidate becomes one."""
    return math.fsum(
        w * min(near, squared_distance(x, candidate)) for x, w, near in zip(X, weights, closest, strict=True)
    )


def draw(masses, target):
    """First sample of positive mass at which the running sum reaches the target; else the last."""
    positive = [i for i, mass in enumerate(masses) if mass > 0]
    for i in positive:
        if math.fsum(masses[: i + 1]) >= target:
            return i
    return positive[-1]


def greedy_seed_probabilities(X, weights, n_trials):
    """Exact probability of each ordered pair of rows that greedy k-means++ may choose as two seeds."""
    found = {}
    for first, weight in enumerate(weights):
        closest = [squared_distance(x, X[first]) for x in X]
        masses = [w * d for w, d in zip(weights, closest, strict=True)]
        for trials in itertools.product(range(len(X)), repeat=n_trials):
            chance = weight / math.fsum(weights) * math.prod(masses[i] / math.fsum(masses) for i in trials)
            potentials = [potential(X, weights, closest, X[i]) for i in trials]
            second = trials[potentials.index(min(potentials))]
            found[first, second] = found.get((first, second), 0.0) + chance
    return found
