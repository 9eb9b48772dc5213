"""Scores of two partitions of an image, as pairs of pixels and as information.

How they are counted is in `partition`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from napari_unet.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RandScore:
    """Pairs of pixels that two partitions join, and the ratios that follow [1]_.

    Scores of several images can be added: the ratios of the sum are those of the pooled pairs.

    Parameters
    ----------
    both, predicted, true : float
        Pairs joined in both partitions, in the prediction, in truth.
    pairs : float
        All pairs.

    References
    ----------
    .. [1] I. Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142, 2015.
    """

    both: float
    predicted: float
    true: float
    pairs: float

    def __add__(self, other: RandScore) -> RandScore:
        """Return the score of both sets of pairs taken as one."""
        return RandScore(
            *(getattr(self, field.name) + getattr(other, field.name) for field in fields(self))
        )

    @property
    def precision(self) -> float:
        """V_Rand of merges: share of the pairs joined in the prediction that truth joins."""
        return self.both / self.predicted if self.predicted else 1.0

    @property
    def recall(self) -> float:
        """V_Rand of splits: share of the pairs joined in truth that the prediction joins."""
        return self.both / self.true if self.true else 1.0

    def v_rand(self, alpha: float = 0.5) -> float:
        """Return V_Rand: `recall` at `alpha` 0, `precision` at 1, their harmonic mean at 0.5.

        Raises
        ------
        ConfigError
            If `alpha` is not between 0 and 1.
        """
        _check_alpha(alpha)
        joined = alpha * self.predicted + (1 - alpha) * self.true
        # Where a side joins no pair, nothing of that side can be wrong.
        return self.both / joined if joined else 1.0

    @property
    def adapted_error(self) -> float:
        """The adapted Rand error: 1 - F of pairs."""
        return 1 - self.v_rand()

    @property
    def error(self) -> float:
        """The Rand error: share of all pairs on which the partitions disagree."""
        wrong = self.predicted + self.true - 2 * self.both
        return wrong / self.pairs if self.pairs else 0.0


@dataclass(frozen=True, slots=True)
class InformationScore:
    """What two partitions tell about each other, in bits [1]_ [2]_.

    Parameters
    ----------
    split : float
        H(predicted | true): how far true objects are cut apart.
    merge : float
        H(true | predicted): how far predicted objects join true ones.
    predicted, true : float
        H(predicted) and H(true).

    References
    ----------
    .. [1] M. Meila, "Comparing clusterings", J. Multivariate Analysis 98, 2007.
    .. [2] I. Arganda-Carreras et al., Frontiers in Neuroanatomy 9:142, 2015.
    """

    split: float
    merge: float
    predicted: float
    true: float

    @property
    def voi(self) -> float:
        """Variation of information in bits: splits and merges together."""
        return self.split + self.merge

    @property
    def voi_nats(self) -> float:
        """Variation of information with the natural logarithm, as the challenge prints it."""
        return self.voi * math.log(2)

    @property
    def mutual(self) -> float:
        """Mutual information in bits."""
        return max(self.true - self.merge, 0.0)

    @property
    def precision(self) -> float:
        """V_Info of merges: mutual information over H(true); 1 if truth is one object."""
        return self.mutual / self.true if self.true else 1.0

    @property
    def recall(self) -> float:
        """V_Info of splits: mutual information over H(predicted); 1 if that is one object."""
        return self.mutual / self.predicted if self.predicted else 1.0

    def v_info(self, alpha: float = 0.5) -> float:
        """Return V_Info: `recall` at `alpha` 0, `precision` at 1, their harmonic mean at 0.5.

        Two partitions that are one object each score 1; one object against several scores 0.

        Raises
        ------
        ConfigError
            If `alpha` is not between 0 and 1.
        """
        _check_alpha(alpha)
        entropy = alpha * self.true + (1 - alpha) * self.predicted
        return self.mutual / entropy if entropy else 1.0


@dataclass(frozen=True, slots=True)
class PartitionScore:
    """Agreement of a predicted partition with the true one; 0 is perfect for the three errors.

    Parameters
    ----------
    voi_split : float
        H(predicted | true) in bits: how far true objects are cut apart.
    voi_merge : float
        H(true | predicted) in bits: how far predicted objects join true ones.
    adapted_rand_error : float
        1 - F1 of pairs of different pixels, between 0 and 1.
    rand_precision, rand_recall : float
        Share of the pairs joined in the prediction that are joined in truth, and the reverse.
    """

    voi_split: float
    voi_merge: float
    adapted_rand_error: float
    rand_precision: float
    rand_recall: float

    @property
    def voi(self) -> float:
        """Variation of information in bits: splits and merges together."""
        return self.voi_split + self.voi_merge


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ConfigError(f"the weight alpha is {alpha}; choose a number from 0 to 1")
