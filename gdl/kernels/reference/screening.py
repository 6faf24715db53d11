"""Which samples a candidate for the next seed may improve, judged by samples that are rounded to 7 bits.

A sample's codes stand for ``center + scale * (code - 63)``, which is at most ``error`` away from the sample. By the
triangle inequality two samples are no closer than their codes say, less the errors of both.
"""

import numpy as np


def quantize_samples(X, center, scale, codes, norms, error):
    """Round samples to multiples of ``scale`` around a center: ``code = 63 + rint((x - center) / scale)``.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
        At most 65,536 features. No element is further from its center than 63 times the scale.
    center : float64 array of shape (n_features,)
    scale : float
    codes : uint8 array of shape ((n_samples + 7) // 8, (n_features + 7) // 8 * 2, 8, 4)
        That of feature j of sample i is ``codes[i // 8, j // 4, i % 8, j % 4]``; the rest is 63.
    norms : int32 array of shape (n_samples,)
        Sum of the squares of ``code - 63`` for each sample.
    error : float64 array of shape (1,)
        Largest Euclidean distance of a sample to what its codes stand for.
    """
    differences = X - center
    rounded = np.rint(differences / scale)
    i, j = np.indices(X.shape)
    codes[:] = 63
    codes[i // 8, j // 4, i % 8, j % 4] = 63 + rounded
    norms[:] = (rounded**2).sum(axis=1)
    error[0] = np.sqrt(((differences - scale * rounded) ** 2).sum(axis=1)).max()


def screen_samples(codes, norms, scale, error, closest, candidates, may_improve):
    """Whether any of the candidates may be closer to a sample than its closest seed is.

    It is not where ``scale ||code - code of c|| - 2 error >= sqrt(closest)``. Rounding is allowed for: in ``closest``,
    and in the candidate's distance, a sum of as many squares as there are features.

    Parameters
    ----------
    codes : uint8 array of shape ((n_samples + 7) // 8, (n_features + 7) // 8 * 2, 8, 4), values below n_codes
    norms : int32 array of shape (n_samples,)
    scale : float
    error : float
    closest : float array of shape (n_samples,)
    candidates : int64 array of shape (n_candidates,), values below n_samples
        Rows that hold the candidates.
    may_improve : uint8 array of shape ((n_samples + 7) // 8,)
        Bit ``i % 8`` of element ``i // 8`` is set where a candidate may be closer to sample i.
    """
    rounded = codes.swapaxes(1, 2).reshape(8 * len(codes), -1)[: len(closest)].astype(np.int64) - 63
    slack = (rounded.shape[1] + 4) * float(np.finfo(closest.dtype).eps)
    may_be_closer = np.zeros(len(closest), bool)
    for row in candidates:
        squares = norms + np.int64(norms[row]) - 2 * (rounded @ rounded[row])
        bound = scale * np.sqrt(np.maximum(squares, 0)) - 2 * error
        may_be_closer |= bound <= (1 + slack) * np.sqrt(closest.astype(np.float64) + 1e-30)
    may_improve[:] = np.packbits(may_be_closer, bitorder="little")
