"""``summary``: what a clustering found, beside plain loops and numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError

from gdl import KMeans

LINE = np.array([[0.0], [1.0], [5.0], [20.0], [24.0]])


def fitted(centers, X, **parameters):
    """A model with these centers."""
    return KMeans(len(centers), init=np.array(centers, float), n_init=1, max_iter=1, tol=1e9, **parameters).fit(X)


def test_by_hand():
    """Centers 2 and 22: distances 2, 1, 3 and 2, 2; the roots of 14 / 3 and of 4."""
    rows = fitted([[2.0], [22.0]], LINE).summary(LINE, n_nearest=2).rows
    assert [row[:3] for row in rows] == [(0, 3, 3.0), (1, 2, 2.0)]
    assert [row.nearest for row in rows] == [[1, 0], [3, 4]]
    assert_allclose([row.spread for row in rows], [math.sqrt(14 / 3), 2.0])
    assert_array_equal([row.center for row in rows], [[2.0], [22.0]])


def test_weights_by_hand():
    """Weights 1, 0, 2 of distances 2, 1, 3: the root of (4 + 18) / 3; the row of weight 0 is left out."""
    summary = fitted([[2.0], [22.0]], LINE).summary(LINE, [1.0, 0.0, 2.0, 0.5, 0.5])
    first, second = summary.rows
    assert (first.size, first.weight, first.nearest) == (2, 3.0, [0, 2])
    assert_allclose([first.spread, second.spread], [math.sqrt(22 / 3), 2.0])
    assert repr(summary).splitlines() == [
        "cluster  size  weight  spread    x0  nearest rows",
        "      0     2    3.00   2.708   2.0  0, 2",
        "      1     2    1.00   2.000  22.0  3, 4",
    ]


def test_against_loops(rng, dtype, tolerance):
    X = rng.standard_normal((60, 3)).astype(dtype)
    model = KMeans(4, random_state=0).fit(X)
    for k, row in enumerate(model.summary(X).rows):
        distances = {
            i: sum((float(X[i, j]) - float(model.cluster_centers_[k, j])) ** 2 for j in range(3))
            for i in range(60)
            if model.labels_[i] == k
        }
        assert row.size == len(distances)
        assert row.nearest == sorted(distances, key=distances.get)[:3]
        assert_allclose(row.spread, math.sqrt(sum(distances.values()) / len(distances)), **tolerance)


def test_the_spread_of_directions(rng):
    X = rng.uniform(0.1, 1, size=(20, 3))
    model = KMeans(2, metric="cosine", random_state=0).fit(X)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    for row in model.summary(X, n_nearest=20).rows:
        cosines = unit[row.nearest] @ row.center
        assert_allclose(row.spread, np.mean(1 - cosines), rtol=1e-9)
        assert np.all(np.diff(cosines) <= 1e-15)


def test_other_samples_than_those_of_the_fit():
    summary = fitted([[2.0], [22.0]], LINE).summary([[1.0], [2.0]])
    empty = summary.rows[1]
    assert (empty.size, empty.nearest) == (0, [])
    assert math.isnan(empty.spread)
    assert repr(summary).splitlines()[2] == "      1     0       -  22.0"


def test_a_summary_is_not_changed_by_its_model():
    model = fitted([[2.0], [22.0]], LINE)
    summary = model.summary(LINE)
    model.cluster_centers_[:] = 0
    assert summary.rows[1].center == [22.0]


def test_names_of_a_frame():
    frame = pd.DataFrame(
        {"length (cm)": LINE[:, 0], "a name that is much too long": 0.0}, index=[*"abcd", "<e>\n& more"]
    )
    summary = fitted([[2.0, 0.0], [22.0, 0.0]], frame).summary(frame)
    assert [row.nearest for row in summary.rows] == [["b", "a", "c"], ["d", "<e>\n& more"]]
    assert repr(summary).splitlines() == [
        "cluster  size  spread  length (cm)  a name that is mu...  nearest rows",
        "      0     3   2.160          2.0                     0  b, a, c",
        "      1     2   2.000         22.0                     0  d, <e> & more",
    ]
    assert "<td>d, &lt;e&gt; &amp; more</td>" in summary._repr_html_()


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([1, 1, 2, 3, 4]),  # which of the two?
        pd.MultiIndex.from_product([[0], range(5)]),
    ],
)
def test_rows_without_a_name_of_their_own_are_numbered(index):
    frame = pd.DataFrame({"x": LINE[:, 0]}, index=index)
    assert [row.nearest for row in fitted([[2.0], [22.0]], frame).summary(frame).rows] == [[1, 0, 2], [3, 4]]


def test_polars():
    frame = pl.DataFrame({"x": LINE[:, 0]})
    summary = fitted([[2.0], [22.0]], frame).summary(frame)
    assert [row.nearest for row in summary.rows] == [[1, 0, 2], [3, 4]]
    assert repr(summary).startswith("cluster  size  spread     x  nearest rows\n")


def test_long_centers_are_cut():
    X = np.outer([1.0, 2.0], np.ones(7))
    header, first, _ = repr(fitted(X, X).summary(X)).splitlines()
    assert header == "cluster  size  spread    x0    x1    x2    x3    x4  ...  nearest rows"
    assert first == "      0     1       0  1.00  1.00  1.00  1.00  1.00  ...  0"
    six = repr(fitted(X[:, :6], X[:, :6]).summary(X[:, :6])).splitlines()[0]
    assert six == "cluster  size  spread    x0    x1    x2    x3    x4    x5  nearest rows"


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1234567.8, 2.0], ["1,234,568", "2"]),
        ([1e15, 1e14], ["1.00e+15", "1.00e+14"]),
        ([3e-9, -2e-9], ["3.00e-09", "-2.00e-09"]),
        ([1000.012, 1000.034], ["1,000.0120", "1,000.0340"]),
        ([7.0], ["7.00"]),
        ([-0.001, 5.0], ["0.00", "5.00"]),
        ([0.0, 5e-8], ["0.00e+00", "5.00e-08"]),
    ],
)
def test_numbers_are_readable(values, shown):
    X = np.array(values)[:, None]
    lines = repr(fitted(X, X).summary(X)).splitlines()[1:]
    assert [line.split()[3] for line in lines] == shown


@pytest.mark.parametrize("n_nearest", [-1, 1.5, True, "all"])
def test_n_nearest_that_cannot_be(n_nearest):
    with pytest.raises(ValueError, match=r"^n_nearest=.* must be a whole number of at least 0\.$"):
        fitted([[2.0], [22.0]], LINE).summary(LINE, n_nearest=n_nearest)


def test_samples_that_cannot_be():
    with pytest.raises(NotFittedError):
        KMeans().summary(LINE)
    model = fitted([[2.0], [22.0]], LINE)
    with pytest.raises(ValueError, match="X has 2 features, but KMeans is expecting 1"):
        model.summary([[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(2,\), expected \(5,\)"):
        model.summary(LINE, [1.0, 2.0])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.summary([[math.nan]])
