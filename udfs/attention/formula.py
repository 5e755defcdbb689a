"""DS and DU in plain arithmetic: floats, numpy arrays, torch tensors and Spark columns alike.

LongAttn (arXiv 2502.16860), with S1 the sum of a head's far block and S2 that of its squares:

    DS  = S1 / L                                        (eq. 5)
    DU  = -Var,  Var = (S2 - S1^2 / N) / (N - 1)        (eq. 6-7)

over N entries: L * L of the matrix (the published code), or (L - k)^2 of the block (the paper).
"""

from typing import Any

Number = Any  # a float, an array, a tensor or a Spark column; what goes in comes out


def strength(s1: Number, length: Number) -> Number:
    """DS of a head: its far mass, a row of the matrix.

    >>> strength(3.0, 12)
    0.25
    """
    return s1 / length


def variance(s1: Number, s2: Number, entries: Number, freedom: Number) -> Number:
    """Var of a head's far block over N entries, of which N - 1, at least 1, are free; DU is -Var.

    `freedom` comes from outside because `max` is another function for Spark's columns.

    >>> variance(2.0, 2.0, entries=4, freedom=3)
    0.3333333333333333
    """
    return (s2 - s1 * s1 / entries) / freedom


def squares_of(s1: Number, du: Number, entries: Number) -> Number:
    """The S2 that gives this DU: for scorers that have one number and no heads.

    >>> squares_of(2.0, -1 / 3, entries=4)
    2.0
    """
    return -du * (entries - 1) + s1 * s1 / entries
