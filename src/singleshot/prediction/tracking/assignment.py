"""Maximum-weight assignment between tracks and detections. NumPy only.

Most pairs of a frame are obvious: their overlap exceeds whatever either side could gain elsewhere. These are taken all
at once; only what is entangled goes to the exact solver, a few rows at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]

_MOST_TRIED = 4
"""Rows of a group whose assignments are tried one by one."""

_MOST_WALKED = 100
"""Entangled edges that are walked in Python; more are quicker as a matrix."""

_ROUNDS = 3
"""Passes over the obvious pairs: each uncovers some for the next."""


class Edges(NamedTuple):
    """Pairs of a row and a column that overlap, with their similarity above 0, ``[P]`` each, by row."""

    rows: IndexArray
    columns: IndexArray
    values: FloatArray

    def where(self, kept: NDArray[np.bool_]) -> Edges:
        """Some of the pairs."""
        return Edges(self.rows[kept], self.columns[kept], self.values[kept])


def overlaps(boxes_a: FloatArray, boxes_b: FloatArray) -> Edges:
    """IoU of the boxes of ``a`` ``[N, 4]`` and of ``b`` ``[M, 4]`` that overlap."""
    left_a, top_a, right_a, bottom_a = boxes_a.T[..., None]
    left_b, top_b, right_b, bottom_b = boxes_b.T
    shared = np.minimum(right_a, right_b) - np.maximum(left_a, left_b)
    height = np.minimum(bottom_a, bottom_b) - np.maximum(top_a, top_b)
    rows, columns = np.nonzero((shared > 0) & (height > 0))
    values = shared[rows, columns] * height[rows, columns]
    area_a = ((right_a - left_a) * (bottom_a - top_a))[rows, 0]
    area_b = ((right_b - left_b) * (bottom_b - top_b))[columns]
    return Edges(rows, columns, values / (area_a + area_b - values))


def assign(pairs: Edges, least: float) -> tuple[IndexArray, IndexArray]:
    """The pairs with the largest sum of similarities, each row and column used once at most.

    Equal to ``scipy.optimize.linear_sum_assignment(similarity, maximize=True)`` with the pairs below ``least`` left
    out afterwards, up to ties.

    Args:
        pairs: what may be assigned.
        least: pairs below it are dropped once the assignment stands.

    Returns:
        (rows, columns), both ``[K]``, rows ascending.
    """
    if not len(pairs.rows):
        return pairs.rows, pairs.columns
    alone = (np.bincount(pairs.rows)[pairs.rows] == 1) & (np.bincount(pairs.columns)[pairs.columns] == 1)
    if alone.all():
        strong = pairs.values >= least
        return pairs.rows[strong], pairs.columns[strong]
    done = alone & (pairs.values >= least)
    row, column = _assign_tangled(pairs.where(~alone), least)
    rows, columns = np.concatenate((pairs.rows[done], row)), np.concatenate((pairs.columns[done], column))
    order = rows.argsort()
    return rows[order], columns[order]


def _assign_tangled(edges: Edges, least: float) -> tuple[IndexArray, IndexArray]:
    """`assign` by connected groups: small ones by trying, which is quicker than any array for two or three rows."""
    if len(edges.rows) > _MOST_WALKED:
        return _assign_group(edges, least)
    by_row: dict[int, list[tuple[int, float]]] = {}
    by_column: dict[int, list[int]] = {}
    for row, column, value in zip(*(part.tolist() for part in edges), strict=True):
        by_row.setdefault(row, []).append((column, value))
        by_column.setdefault(column, []).append(row)
    seen: set[int] = set()
    rows: list[int] = []
    columns: list[int] = []
    for start in by_row:
        if start in seen:
            continue
        seen.add(start)
        group = [start]
        for row in group:  # grows while it is walked
            for column, _ in by_row[row]:
                new = [other for other in by_column[column] if other not in seen]
                seen.update(new)
                group += new
        if len(group) > _MOST_TRIED:
            row_part, column_part = _assign_group(edges.where(np.isin(edges.rows, group)), least)
            rows += row_part.tolist()
            columns += column_part.tolist()
            continue
        found = [(row, column) for row, column, value in _try(group, by_row)[1] if value >= least]
        rows += [row for row, _ in found]
        columns += [column for _, column in found]
    return np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64)


def _try(
    group: list[int], by_row: dict[int, list[tuple[int, float]]], at: int = 0, used: frozenset[int] = frozenset()
) -> tuple[float, tuple[tuple[int, int, float], ...]]:
    """The best sum of the rows from ``at`` on, and its pairs with their values, by trying every choice."""
    if at == len(group):
        return 0.0, ()
    best = _try(group, by_row, at + 1, used)
    for column, value in by_row[group[at]]:
        if column not in used:
            rest, pairs = _try(group, by_row, at + 1, used | {column})
            if rest + value > best[0]:
                best = rest + value, ((group[at], column, value), *pairs)
    return best


def _assign_group(edges: Edges, least: float) -> tuple[IndexArray, IndexArray]:
    """Many edges, or a large group, as a matrix."""
    open_rows, row_of = np.unique(edges.rows, return_inverse=True)
    open_columns, column_of = np.unique(edges.columns, return_inverse=True)
    similarity = np.zeros((len(open_rows), len(open_columns)))
    similarity[row_of, column_of] = edges.values
    row, column = _assign_dense(similarity, least)
    return open_rows[row], open_columns[column]


def _assign_dense(similarity: FloatArray, least: float) -> tuple[IndexArray, IndexArray]:
    """`assign` for a matrix ``[N, M]`` in which every row and column has an entry above 0."""
    left = similarity.copy()
    partner = np.full(len(left), -1, dtype=np.int64)
    for _ in range(_ROUNDS):
        row, column = _obvious(left)
        if not len(row):
            break
        partner[row] = column
        left[row] = 0
        left[:, column] = 0
    open_rows, open_columns = np.flatnonzero(left.any(1)), np.flatnonzero(left.any(0))
    if len(open_rows):
        row, column = solve(left[np.ix_(open_rows, open_columns)])
        partner[open_rows[row]] = open_columns[column]
    rows = np.flatnonzero(partner >= 0)
    columns = partner[rows]
    values = similarity[rows, columns]
    strong = (values >= least) & (values > 0)
    return rows[strong], columns[strong]


def _obvious(similarity: FloatArray) -> tuple[IndexArray, IndexArray]:
    """Edges that are in every best assignment: worth more than the best others of their row and column together."""
    rows = np.flatnonzero(similarity.max(1) > 0)
    best = similarity[rows].argmax(1)
    value = similarity[rows, best]
    other = similarity.copy()
    other[rows, best] = 0
    # A column that is the best of two rows keeps the loser's value, so that neither looks obvious beside the other.
    rivals = np.zeros(similarity.shape[1])
    order = np.argsort(value)
    first = np.full(similarity.shape[1], -1, dtype=np.int64)
    first[best[order]] = order  # the last one written is the strongest
    losers = first[best] != np.arange(len(rows))
    np.maximum.at(rivals, best[losers], value[losers])
    gain_elsewhere = other[rows].max(1) + np.maximum(other.max(0), rivals)[best]
    clear = (value > gain_elsewhere) & ~losers
    return rows[clear], best[clear]


def solve(similarity: FloatArray) -> tuple[IndexArray, IndexArray]:
    """Exact assignment by shortest augmenting paths (Kuhn's algorithm with potentials, O(N² M)).

    Args:
        similarity: ``[N, M]``.

    Returns:
        (rows, columns), both ``[min(N, M)]``, rows ascending.
    """
    if similarity.shape[0] > similarity.shape[1]:
        columns, rows = solve(similarity.T)
        order = np.argsort(rows)
        return rows[order], columns[order]
    cost = -similarity
    height, width = cost.shape
    row_price, column_price = np.zeros(height), np.zeros(width)
    row_of = np.full(width, -1, dtype=np.int64)
    for start in range(height):
        distance = np.full(width, np.inf)
        came_from = np.full(width, -1, dtype=np.int64)
        visited = np.zeros(width, dtype=bool)
        row, length, last = start, 0.0, -1
        while True:  # grow the tree of shortest paths until it reaches a free column
            reduced = length + cost[row] - row_price[row] - column_price
            closer = ~visited & (reduced < distance)
            distance[closer] = reduced[closer]
            came_from[closer] = last
            column = int(np.where(visited, np.inf, distance).argmin())
            length = distance[column]
            if row_of[column] < 0:
                break
            visited[column] = True
            row, last = int(row_of[column]), column
        row_price[start] += length
        row_price[row_of[visited]] += length - distance[visited]
        column_price[visited] -= length - distance[visited]
        while column >= 0:  # walk the path back, moving every row one column on
            before = int(came_from[column])
            row_of[column] = start if before < 0 else row_of[before]
            column = before
    columns = np.flatnonzero(row_of >= 0)
    order = np.argsort(row_of[columns])
    return row_of[columns][order], columns[order]
