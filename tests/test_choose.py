"""``choose_n_clusters``: its criteria beside scikit-learn's numbers, its rule by hand, its result to look at."""

import math
import sys
from math import nan

import numpy as np
import pandas as pd
import pytest
import sklearn.cluster
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import silhouette_score

from gdl import KMeans, choose_n_clusters
from gdl.choose import ClusterChoice, Criteria, recommend

FEW = {"n_init": 1, "n_references": 2, "random_state": 0}


@pytest.fixture
def three(rng):
    """Three clusters that nobody would miss."""
    return (np.array([0.0, 10.0, 20.0])[:, None, None] + rng.uniform(size=(3, 10, 2))).reshape(30, 2)


def rows_of(gaps, errors, silhouettes):
    return [Criteria(k, 1.0, *row) for k, row in enumerate(zip(silhouettes, gaps, errors, strict=True), start=1)]


def test_criteria_are_scikit_learns(three):
    n_references, numbers = 3, [1, 2, 3, 4]

    def theirs(X, k):
        return sklearn.cluster.KMeans(k, n_init=2, random_state=5).fit(X)

    random = np.random.RandomState(5)
    low, high = three.min(axis=0), three.max(axis=0)
    references = [random.uniform(low, high, three.shape) for _ in range(n_references)]
    choice = choose_n_clusters(three, numbers, random_state=5, n_init=2, n_references=n_references)
    for row, k in zip(choice.rows, numbers, strict=True):
        fitted = theirs(three, k)
        logs = [math.log(theirs(reference, k).inertia_) for reference in references]
        mean = sum(logs) / n_references
        deviation = math.sqrt(sum((log - mean) ** 2 for log in logs) / n_references)
        assert row.n_clusters == k
        assert_allclose(row.inertia, fitted.inertia_, rtol=1e-9)
        assert_allclose(row.gap, mean - math.log(fitted.inertia_), rtol=1e-9)
        assert_allclose(row.gap_error, deviation * math.sqrt(1 + 1 / n_references), rtol=1e-7)
        if k == 1:
            assert math.isnan(row.silhouette)
        else:
            assert_allclose(row.silhouette, silhouette_score(three, fitted.labels_), rtol=1e-9)


def test_inertias_are_those_of_kmeans(three):
    choice = choose_n_clusters(three, [2, 5], **FEW)
    expected = [KMeans(k, n_init=1, random_state=0).fit(three).inertia_ for k in (2, 5)]
    assert [row.inertia for row in choice.rows] == expected


def test_silhouette_of_a_sample(three):
    choice = choose_n_clusters(three, [3], silhouette_sample=12, **FEW)
    rows = np.random.RandomState(0).choice(30, 12, replace=False)
    labels = KMeans(3, n_init=1, random_state=0).fit(three).labels_
    assert_allclose(choice.rows[0].silhouette, silhouette_score(three[rows], labels[rows]), rtol=1e-9)
    everything = choose_n_clusters(three, [3], silhouette_sample=None, **FEW)
    assert_allclose(everything.rows[0].silhouette, silhouette_score(three, labels), rtol=1e-9)


def test_silhouette_far_from_zero(three):
    near, far = (choose_n_clusters(X, [3], **FEW).rows[0].silhouette for X in (three, three + 1e7))
    assert_allclose(far, near, rtol=1e-6)


@pytest.mark.compiled
@pytest.mark.parametrize("n_clusters", [2, 3, 5, 7])
@pytest.mark.parametrize("n_features", [2, 8])
@pytest.mark.parametrize("place", ["ring", "line"])
def test_blobs_are_counted(rng, n_clusters, n_features, place):
    centers = np.zeros((n_clusters, n_features))
    if place == "ring":
        angles = 2 * np.pi * (rng.uniform() + np.arange(n_clusters) / n_clusters)
        centers[:, 0], centers[:, 1] = 30 * np.cos(angles), 30 * np.sin(angles)
    else:
        centers[:, 1] = 15 * np.arange(n_clusters)
    X = np.repeat(centers, 40, axis=0) + rng.standard_normal((40 * n_clusters, n_features))
    choice = choose_n_clusters(X, range(1, 9), random_state=0)
    assert choice.recommended == n_clusters
    assert choice.reason.startswith(f"{n_clusters} clusters: ")


@pytest.mark.compiled
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniform_data_are_one_cluster(rng, dtype):
    choice = choose_n_clusters(rng.uniform(size=(300, 3)).astype(dtype), range(1, 6), random_state=0)
    assert choice.recommended == 1
    assert choice.reason.startswith("1 cluster: the gap statistic decides and prefers 1; the silhouette prefers ")


def test_directions_are_counted_by_the_cosine(rng):
    directions = np.eye(3)[rng.integers(3, size=60)] + 0.05 * rng.uniform(size=(60, 3))
    X = directions * rng.uniform(1, 100, size=(60, 1))
    choice = choose_n_clusters(X, range(2, 5), metric="cosine", **FEW)
    assert choice.recommended == 3
    labels = KMeans(3, metric="cosine", n_init=1, random_state=0).fit(X).labels_
    assert_allclose(choice.rows[1].silhouette, silhouette_score(X, labels, metric="cosine"), rtol=1e-9)


@pytest.mark.parametrize(
    ("gaps", "silhouettes", "expected"),
    [
        # 0.5 < 0.9 - 0.1 and 0.9 < 1.2 - 0.1, but 1.2 >= 1.25 - 0.1: three, though four have the largest gap
        ([0.5, 0.9, 1.2, 1.25], [nan, 0.3, 0.2, 0.1], "3 clusters: the gap statistic decides and prefers 3; the "
         "silhouette prefers 2."),
        ([1.0, 1.125, 1.0], [nan, nan, 0.1], "2 clusters: the gap statistic decides and prefers 2; the silhouette "
         "prefers 3."),
        ([0.0, 3.0, 2.0], [nan, 0.7, 0.1], "2 clusters: the gap statistic and the silhouette both prefer 2."),
        ([1.0, 0.5], [nan, nan], "1 cluster: the gap statistic decides and prefers 1; the silhouette has no "
         "preference."),
        # 1.4 - 3 * 0.1 is more than 1, 1.25 - 3 * 0.1 is not
        ([1.0, 0.9, 1.4], [nan, 0.1, 0.2], "3 clusters: the silhouette decides and prefers 3; the gap statistic "
         "prefers 1, though the gap is much larger at 3."),
        ([1.0, 0.9, 1.25], [nan, 0.1, 0.2], "1 cluster: the gap statistic decides and prefers 1; the silhouette "
         "prefers 3."),
        ([0.0, 1.0, 2.0, 3.0], [nan, 0.2, 0.4, 0.4], "3 clusters: the silhouette decides and prefers 3; the gap still "
         "rises at the last number tried."),
        ([nan, nan], [nan, nan], "1 cluster: neither criterion prefers any number, so the smallest is taken."),
        ([1.0], [nan], "1 is the only number that was tried."),
    ],
)  # fmt: skip
def test_the_rule(gaps, silhouettes, expected):
    choice = recommend(rows_of(gaps, [0.1] * len(gaps), silhouettes))
    assert choice.reason == expected
    assert choice.recommended == int(expected[0])


def test_the_gap_is_compared_with_the_next_one_and_its_error():
    assert recommend(rows_of([0.5, 0.75], [0.0, 0.25], [nan, 0.5])).recommended == 1  # equal is enough
    assert recommend(rows_of([1.0, 1.2, 0.0], [0.5, 0.1, 0.1], [nan, nan, nan])).recommended == 2


def test_numbers_come_in_any_order(three):
    choice = choose_n_clusters(three, iter([4, np.int64(2), 4, 3]), **FEW)
    assert [row.n_clusters for row in choice.rows] == [2, 3, 4]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_no_inertia_is_left():
    choice = choose_n_clusters([[0.0], [4.0], [9.0]], [1, 2, 3], **FEW)
    assert choice.rows[2][:3] == (3, 0.0, pytest.approx(nan, nan_ok=True))
    assert math.isnan(choice.rows[2].gap)  # references have none left either
    assert choose_n_clusters(np.ones((4, 2)), [1, 2], **FEW).recommended == 1


def test_the_same_random_state_gives_the_same_numbers(three):
    before = np.random.get_state()  # noqa: NPY002
    first, again = (choose_n_clusters(three, [2, 3], **FEW) for _ in range(2))
    assert first.rows == again.rows
    source = np.random.RandomState(0)
    one, two = (choose_n_clusters(three, [2, 3], **FEW | {"random_state": source}) for _ in range(2))
    assert one.rows != two.rows
    assert one.rows == choose_n_clusters(three, [2, 3], **FEW | {"random_state": np.random.RandomState(0)}).rows
    one, two = (choose_n_clusters(three, [2, 3], **FEW | {"random_state": None}) for _ in range(2))
    assert one.rows != two.rows
    after = np.random.get_state()  # noqa: NPY002
    assert_array_equal(before[1], after[1])
    assert before[2:] == after[2:]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (range(0), r"^n_clusters=range\(0, 0\) has no number to try; pass some, such as range\(1, 11\)\.$"),
        (5, r"^n_clusters=5 must be several numbers to try, such as range\(1, 11\)\.$"),
        ("35", r"^n_clusters='35' must be several numbers to try, such as range\(1, 11\)\.$"),
        (range(3), r"^n_clusters has 0, but numbers of clusters must be whole and at least 1\.$"),
        ([2, 2.5], r"^n_clusters has 2\.5, but numbers of clusters must be whole and at least 1\.$"),
        ([2, nan], r"^n_clusters has nan, but numbers of clusters must be whole and at least 1\.$"),
        ([True], r"^n_clusters has True, but numbers of clusters must be whole and at least 1\.$"),
        (range(1, 40), r"^n_samples=30 should be >= 39, the largest of n_clusters; try fewer\.$"),
    ],
)
def test_numbers_that_cannot_be(three, numbers, message, monkeypatch):
    monkeypatch.setattr(KMeans, "fit", None)  # no work is done
    with pytest.raises(ValueError, match=message):
        choose_n_clusters(three, numbers)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({"n_init": 0}, "The 'n_init' parameter of choose_n_clusters must be"),
        ({"n_references": 0}, "The 'n_references' parameter of choose_n_clusters must be"),
        ({"silhouette_sample": 1}, "The 'silhouette_sample' parameter of choose_n_clusters must be"),
        ({"metric": "manhattan"}, "The 'metric' parameter of choose_n_clusters must be"),
        ({"random_state": "dice"}, "The 'random_state' parameter of choose_n_clusters must be"),
        ({"device": "abacus"}, "device='abacus' is not one that gdl has kernels for"),
    ],
)
def test_parameters_that_cannot_be(three, parameter, message, monkeypatch):
    monkeypatch.setattr(KMeans, "fit", None)
    with pytest.raises(ValueError, match=message):
        choose_n_clusters(three, [2], **parameter)


def test_samples_that_cannot_be(three, monkeypatch):
    monkeypatch.setattr(KMeans, "fit", None)
    three[3, 1] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        choose_n_clusters(three, [2])
    three[3] = 0
    with pytest.raises(ValueError, match="Row 3 of X is all zeros and has no direction"):
        choose_n_clusters(three, [2], metric="cosine")


@pytest.fixture
def choice():
    rows = [
        Criteria(1, 123456.0, nan, 0.25, 0.125),
        Criteria(2, 12.3456, 0.5, 0.5, 0.0625),
        Criteria(3, 6.0, -0.25, math.inf, 0.0),
    ]
    return ClusterChoice(rows, 2, "Two & <no more>.")


def test_the_table_prints(choice):
    assert repr(choice).splitlines() == [
        "clusters     inertia  silhouette    gap  gap error",
        "       1  123,456.00           -  0.250      0.125",
        "       2       12.35       0.500  0.500      0.062  <-",
        "       3        6.00      -0.250    inf      0.000",
        "",
        "Two & <no more>.",
    ]


def test_the_table_is_html_in_a_notebook(choice):
    text = choice._repr_html_()
    cells = ["1", "123,456.00", "-", "0.250", "0.125", ""]
    assert "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" in text
    assert text.startswith("<table><thead><tr><th>clusters</th>")
    assert "<td>&lt;-</td>" in text
    assert text.endswith("</table><p>Two &amp; &lt;no more&gt;.</p>")


def test_rows_make_a_frame(choice):
    frame = pd.DataFrame(choice.rows)
    assert list(frame) == ["n_clusters", "inertia", "silhouette", "gap", "gap_error"]
    assert frame["n_clusters"].tolist() == [1, 2, 3]


def test_the_plot_shows_the_three_criteria(choice):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes = choice.plot()
    assert [axis.get_title() for axis in axes] == ["inertia", "silhouette", "gap"]
    for axis, name in zip(axes, ("inertia", "silhouette", "gap"), strict=True):
        x, y = axis.lines[0].get_data()
        assert_array_equal(x, [1, 2, 3])
        assert_array_equal(y, [getattr(row, name) for row in choice.rows])
        assert axis.lines[-1].get_xdata() == [2, 2]  # the recommended number
    axes[0].figure.canvas.draw()
    pyplot.close("all")


def test_the_plot_without_matplotlib(choice, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'^plot\(\) draws with matplotlib; install it: pip install "gdl\[plot\]"$'):
        choice.plot()
