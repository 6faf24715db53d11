"""How many clusters: ``choose_n_clusters`` tries several numbers and says which one it recommends."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from gdl import _validation, kernels
from gdl._table import Table, numbers
from gdl.kmeans import METRICS, KMeans

#: The gap at the silhouette's number counts as larger from so many standard errors on. Of 415 data sets with a known
#: number of clusters (uniform, normal, blobs, rings, lines, unequal sizes), the gap statistic alone was right for 305,
#: the silhouette alone for 263, and the two for 377, 382, 384 and 384 with 1, 2, 3 and 4 errors.
MANY_ERRORS = 3

Fit = Callable[[NDArray[Any], int], KMeans]


class Criteria(NamedTuple):
    """What speaks for a number of clusters; NaN where a criterion does not exist."""

    n_clusters: int
    inertia: float  #: falls with every cluster; look for the number from which on it falls slowly
    silhouette: float  #: from -1 to 1, the more the better; not for 1 cluster
    gap: float  #: how much smaller the log of the inertia is than that of data without clusters
    gap_error: float  #: standard error of the gap


@dataclass(frozen=True, repr=False)
class ClusterChoice:
    """What ``choose_n_clusters`` found: prints as a table, and shows as one in a notebook."""

    rows: list[Criteria]  #: one for each number of clusters, ascending
    recommended: int
    reason: str  #: which criterion prefers what, and which one decides, in one sentence

    def __repr__(self) -> str:
        """Return the table as text."""
        return self._table().as_text()

    def _repr_html_(self) -> str:
        return self._table().as_html()

    def _table(self) -> Table:
        """Return the cells; an arrow points to the recommended number."""
        inertias = [row.inertia for row in self.rows]
        smallest = min((inertia for inertia in inertias if inertia > 0), default=None)
        columns = [
            [str(row.n_clusters) for row in self.rows],
            numbers(inertias, scale=smallest),
            *(numbers([row[j] for row in self.rows], scale=0.1) for j in (2, 3, 4)),
            ["<-" if row.n_clusters == self.recommended else "" for row in self.rows],
        ]
        header = ["clusters", *(name.replace("_", " ") for name in Criteria._fields[1:]), ""]
        return Table(header, list(zip(*columns, strict=True)), self.reason)

    def plot(self) -> NDArray[Any]:
        """Draw the three criteria, with a line at the recommended number.

        Returns
        -------
        ndarray of shape (3,)
            The axes of the inertia, the silhouette and the gap with its standard error.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        try:
            from matplotlib import pyplot
        except ImportError as error:
            raise ImportError('plot() draws with matplotlib; install it: pip install "gdl[plot]"') from error
        _, axes = pyplot.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
        n_clusters, inertia, silhouette, gap, gap_error = zip(*self.rows, strict=True)
        axes[0].plot(n_clusters, inertia, marker="o")
        axes[1].plot(n_clusters, silhouette, marker="o")
        axes[2].errorbar(n_clusters, gap, yerr=gap_error, marker="o", capsize=3)
        for axis, title in zip(axes, ("inertia", "silhouette", "gap"), strict=True):
            axis.axvline(self.recommended, color="gray", linestyle="--", zorder=0)
            axis.set(title=title, xlabel="clusters")
            axis.xaxis.get_major_locator().set_params(integer=True)
        return np.asarray(axes)


@validate_params(
    {
        "random_state": ["random_state"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_references": [Interval(Integral, 1, None, closed="left")],
        "silhouette_sample": [Interval(Integral, 2, None, closed="left"), None],
        "metric": [StrOptions(set(METRICS))],
        "device": [str],
    },
    prefer_skip_nested_validation=True,
)
def choose_n_clusters(
    X: Any,
    n_clusters: Iterable[int],
    *,
    random_state: Any = None,
    n_init: Any = 3,
    n_references: int = 10,
    silhouette_sample: int | None = 2000,
    metric: str = "euclidean",
    device: str = "cpu",
) -> ClusterChoice:
    """Try several numbers of clusters, and recommend one.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    n_clusters : iterable of int
        The numbers to try, such as ``range(1, 11)``. Start with 1 if there may be no clusters at all.
    random_state : int, RandomState instance or None, default=None
        Seed of all that is drawn. With an int, the inertias are those of ``KMeans`` with the same arguments.
    n_init : "auto" or int, default=3
        Runs of each fit, as in ``KMeans``.
    n_references : int, default=10
        Data sets without clusters that the gap compares with; each is clustered for every number.
    silhouette_sample : int or None, default=2000
        The silhouette is taken of this many samples at most, whose distances are all computed; None for all samples.
    metric : {"euclidean", "cosine"}, default="euclidean"
        As in ``KMeans``. With ``"cosine"``, the gap's references are drawn around the rows of length 1.
    device : str, default="cpu"

    Returns
    -------
    ClusterChoice
        ``recommended`` is the number, ``reason`` the sentence why; ``rows`` has a named tuple for each number, ready
        for ``pandas.DataFrame(choice.rows)``; ``plot()`` draws them with matplotlib (``pip install "gdl[plot]"``).

    Notes
    -----
    The silhouette (Rousseeuw 1987) prefers the number where it is largest. The gap statistic (Tibshirani, Walther &
    Hastie 2001, "Estimating the number of clusters in a data set via the gap statistic") compares the log of the
    inertia with that of references uniform over the box of the data, and prefers the smallest number whose gap is at
    least the next one's minus that one's standard error; none, if the gap rises on to the last. Only it can tell that
    there are no clusters, but it stops early where many clusters look like few at first. So its number is
    recommended unless it has none, or the gap at the silhouette's number is larger by more than three of its standard
    errors: then it is the silhouette's. Numbers are compared with the next one that was given.

    Examples
    --------
    >>> import numpy as np
    >>> from gdl import choose_n_clusters
    >>> X = np.random.default_rng(0).uniform(size=(30, 2)) + np.repeat([[0, 0], [5, 0], [0, 5]], 10, axis=0)
    >>> choice = choose_n_clusters(X, range(1, 6), random_state=0)
    >>> choice
    clusters  inertia  silhouette     gap  gap error
           1   338.11           -  -0.669      0.130
           2   127.80       0.644  -0.291      0.130
           3     4.90       0.889   2.429      0.170  <-
           4     3.87       0.769   2.257      0.143
           5     2.88       0.617   2.262      0.150
    <BLANKLINE>
    3 clusters: the gap statistic and the silhouette both prefer 3.
    >>> choice.recommended
    3
    """
    _validation.check_device(device)
    X, _ = _validation.check_unlabelled(KMeans(), X, (np.float64, np.float32))
    candidates = check_candidates(n_clusters, len(X))
    if metric == "cosine":
        X = _validation.on_sphere(kernels.load(device), X)
    random, seed = split_random_state(random_state)

    def fit(samples: NDArray[Any], k: int) -> KMeans:
        model = KMeans(k, n_init=n_init, random_state=seed, metric=metric, device=device)
        model.fit(samples)
        return model

    models = [fit(X, k) for k in candidates]
    inertias = [model.inertia_ for model in models]
    silhouettes = silhouettes_of(X, [model.labels_ for model in models], metric, silhouette_sample, random)
    gaps, errors = gap_statistic(X, candidates, inertias, fit, n_references, random)
    rows = [Criteria(*row) for row in zip(candidates, inertias, silhouettes, gaps, errors, strict=True)]
    return recommend(rows)


def check_candidates(n_clusters: Any, n_samples: int) -> list[int]:
    """Return the numbers of clusters to try, ascending; each can be a number of clusters of so many samples."""
    if not isinstance(n_clusters, Iterable) or isinstance(n_clusters, str):
        raise ValueError(f"n_clusters={n_clusters!r} must be several numbers to try, such as range(1, 11).")
    candidates = list(n_clusters)
    if not candidates:
        raise ValueError(f"n_clusters={n_clusters!r} has no number to try; pass some, such as range(1, 11).")
    for k in candidates:
        if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
            raise ValueError(f"n_clusters has {k!r}, but numbers of clusters must be whole and at least 1.")
    largest = int(max(candidates))
    if largest > n_samples:
        raise ValueError(f"n_samples={n_samples} should be >= {largest}, the largest of n_clusters; try fewer.")
    return sorted({int(k) for k in candidates})


def split_random_state(random_state: Any) -> tuple[np.random.RandomState, int]:
    """Return a source of random numbers, and the seed of all fits. NumPy's global numbers are left alone."""
    if isinstance(random_state, Integral):
        return np.random.RandomState(int(random_state)), int(random_state)
    random = np.random.RandomState() if random_state is None else check_random_state(random_state)
    return random, int(random.randint(np.iinfo(np.int32).max))


def silhouettes_of(
    X: NDArray[Any],
    labellings: list[NDArray[np.int32]],
    metric: str,
    most_samples: int | None,
    random_state: np.random.RandomState,
) -> list[float]:
    """Return the silhouette of each labelling on the same samples; NaN where it has one label, or one a sample."""
    from sklearn.metrics import pairwise_distances, silhouette_score

    n_samples = len(X) if most_samples is None else min(most_samples, len(X))
    chosen = np.arange(len(X)) if n_samples == len(X) else random_state.choice(len(X), n_samples, replace=False)
    rows = X[chosen].astype(np.float64)
    if metric == "euclidean":
        rows -= rows.mean(axis=0)  # scikit-learn's distances are products, which lose digits far from zero
    distances = pairwise_distances(rows, metric=metric)
    return [
        float(silhouette_score(distances, labels[chosen], metric="precomputed"))
        if 1 < len(np.unique(labels[chosen])) < n_samples
        else float("nan")
        for labels in labellings
    ]


def gap_statistic(
    X: NDArray[Any],
    candidates: list[int],
    inertias: list[float],
    fit: Fit,
    n_references: int,
    random_state: np.random.RandomState,
) -> tuple[list[float], list[float]]:
    """Return the gap of each number of clusters, and its standard error."""
    low, high = X.min(axis=0), X.max(axis=0)
    references = np.empty((n_references, len(candidates)))
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # nobody will use these clusters
        for b in range(n_references):
            reference = random_state.uniform(low, high, X.shape).astype(X.dtype, copy=False)
            references[b] = [np.log(fit(reference, k).inertia_) for k in candidates]
        gaps = references.mean(axis=0) - np.log(inertias)
        errors = references.std(axis=0) * np.sqrt(1 + 1 / n_references)
    return gaps.tolist(), errors.tolist()


def recommend(rows: list[Criteria]) -> ClusterChoice:
    """Return the choice and the sentence why."""
    if len(rows) == 1:
        return ClusterChoice(rows, rows[0].n_clusters, f"{rows[0].n_clusters} is the only number that was tried.")
    gap, silhouette = by_gap(rows), by_silhouette(rows)
    best = gap or silhouette or rows[0]
    if gap is None and silhouette is None:
        why = "neither criterion prefers any number, so the smallest is taken"
    elif gap is None:
        why = f"the silhouette decides and prefers {best.n_clusters}; the gap still rises at the last number tried"
    elif silhouette is None:
        why = f"the gap statistic decides and prefers {best.n_clusters}; the silhouette has no preference"
    elif gap is silhouette:
        why = f"the gap statistic and the silhouette both prefer {best.n_clusters}"
    elif silhouette.gap - MANY_ERRORS * silhouette.gap_error > gap.gap:
        best = silhouette
        why = (
            f"the silhouette decides and prefers {best.n_clusters}; the gap statistic prefers {gap.n_clusters}, though "
            f"the gap is much larger at {best.n_clusters}"
        )
    else:
        why = f"the gap statistic decides and prefers {gap.n_clusters}; the silhouette prefers {silhouette.n_clusters}"
    return ClusterChoice(rows, best.n_clusters, f"{best.n_clusters} cluster{'s' * (best.n_clusters > 1)}: {why}.")


def by_gap(rows: list[Criteria]) -> Criteria | None:
    """Return the first row whose gap is at least the next one's minus its error; None if there is none."""
    for row, following in pairwise(rows):
        if row.gap >= following.gap - following.gap_error:
            return row
    return None


def by_silhouette(rows: list[Criteria]) -> Criteria | None:
    """Return the first row with the largest silhouette; None if no row has one."""
    known = [row for row in rows if not np.isnan(row.silhouette)]
    return max(known, key=lambda row: row.silhouette) if known else None
