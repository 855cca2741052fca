"""What the paper has measured (Zhang et al. 2022, Table 3), to stand beside our own numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

_TABLE3 = (
    # penalty, TPR and FPR of the blue arm, TPR and FPR of the red arm
    (1, 0.679015, 0.183200, 0.628980, 0.151890),
    (2, 0.496245, 0.036595, 0.483435, 0.041970),
    (4, 0.436340, 0.011250, 0.413220, 0.011075),
    (8, 0.393160, 0.004140, 0.368120, 0.004380),
    (16, 0.359925, 0.001275, 0.347165, 0.001620),
    (32, 0.337955, 0.000355, 0.312365, 0.000645),
    (64, 0.318940, 0.000205, 0.302915, 0.000280),
    (128, 0.311070, 0.000155, 0.276590, 0.000125),
    (256, 0.286845, 0.000055, 0.268060, 0.000050),
    (512, 0.281780, 0.000010, 0.256640, 0.000030),
)
PAPER: Mapping[str, Mapping[int, tuple[float, float]]] = {
    "B": {penalty: (tpr, fpr) for penalty, tpr, fpr, _, _ in _TABLE3},
    "R": {penalty: (tpr, fpr) for penalty, _, _, tpr, fpr in _TABLE3},
}
"""Mean TPR and FPR by arm and penalty: Table 3 of Zhang et al. (2022), from 40,000 test pairs of another population."""

CATALOG_PENALTY = 16
"""The paper's choice of penalty for Figure 6 and for its candidates (section 4.1)."""


def reference(penalties: Sequence[int], wanted: int = CATALOG_PENALTY) -> int:
    """The penalty nearest to ``wanted``, as a ratio; by default the one that figures of one penalty show."""
    return min(penalties, key=lambda penalty: abs(math.log(penalty / wanted)))


def paper_fpr(head: str, penalty: int) -> float:
    """The paper's false positive rate at the penalty nearest to ``penalty``; for both arms together the blue one's."""
    table = PAPER.get(head, PAPER["B"])
    return table[reference(list(table), penalty)][1]
