"""Boosted trees of one modality, fitted to any likelihood by LightGBM and kept as plain tensors.

References:
    Ke et al. (2017), LightGBM, https://papers.nips.cc/paper/6907
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodn.errors import import_extra
from multimodn.fusion.trees import Trees, TreeSizes

Loss = Callable[[Tensor], Tensor]
Floats = NDArray[np.float64]

MIN_ROWS = 1000  # labelled training patients, below which trees are not tried: linear models are as good there
MAX_ROUNDS = 400
PATIENCE = 30  # rounds without a better held-out loss, after which boosting stops
MIN_CURVATURE = 1e-3  # least second derivative of the loss of a row
SETTINGS: dict[str, Any] = {
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_data_in_leaf": 30,
    # rows that an offset explains have hardly any curvature: no leaf may consist of them alone
    "min_sum_hessian_in_leaf": 3.0,
    "lambda_l2": 10.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_col_wise": True,
    "verbosity": -1,
}


def is_installed() -> bool:
    """Whether LightGBM can be imported."""
    return find_spec("lightgbm") is not None


# of trees over the columns of all modalities: more to combine, and more to choose from
JOINT_SETTINGS = SETTINGS | {
    "learning_rate": 0.03,
    "num_leaves": 31,
    "max_depth": 8,
    "lambda_l2": 1.0,
    "feature_fraction": 0.3,
}


@dataclass(frozen=True)
class TreeFit:
    """Boosted trees with K outputs: those without each fold, and, if asked for, those of all rows, the last."""

    # LightGBM's description of each tree; tree i of a fit belongs to output i modulo K
    trees: list[list[dict[str, Any]]]
    held_out: Tensor  # evidence of each row from the trees without its fold, float64 ``(n, K)``


def fit_trees(
    x: Tensor, loss: Loss, n_outputs: int, folds: Tensor, n_folds: int, weights: Tensor, seed: int,
    *, of_all: bool, settings: Mapping[str, Any] | None = None,
) -> TreeFit:  # fmt: skip
    """Boosts trees on rows ``x`` ``(n, p)``, NaN = empty, without each fold.

    The rows that a fold leaves out tell after how many rounds to stop; all folds get the mean of these numbers.
    See `multimodn.training.experts.linear.fit_linear` for the other arguments; ``loss`` gives the losses of all rows.
    ``of_all``: whether trees of all rows are boosted too, for the mean number of rounds; ``settings``: of LightGBM,
    default `SETTINGS`.

    Raises:
        MissingExtraError: Without LightGBM.
    """
    lightgbm = import_extra("lightgbm", "training.experts: trees", "trees")
    table, weight = x.numpy(), weights.double()
    settings = {**(settings or SETTINGS), "seed": seed} | ({"num_class": n_outputs} if n_outputs > 1 else {})
    boost = partial(_boost, lightgbm, settings, table, loss, weight, n_outputs=n_outputs)
    held_out = torch.zeros(len(x), n_outputs, dtype=torch.float64)
    parts = {fold: (folds == fold).nonzero().squeeze(1) for fold in folds.unique().tolist()}  # type: ignore[no-untyped-call]
    boosters = {fold: boost((folds != fold).nonzero().squeeze(1), outside) for fold, outside in parts.items()}
    # one number of rounds for all folds: each fold's own best would flatter the trees beside other experts
    n_rounds = max(1, round(float(np.mean([best for _, best in boosters.values()]))))
    fitted: dict[int, list[dict[str, Any]]] = {}
    for fold, (booster, _) in boosters.items():
        outside = parts[fold]
        fitted[fold] = _described(booster, n_rounds)
        raw = booster.predict(table[outside.numpy()], raw_score=True, num_iteration=n_rounds)
        held_out[outside] = torch.from_numpy(np.asarray(raw, dtype=np.float64).reshape(len(outside), n_outputs))
    lacking = [fold for fold in range(n_folds) if fold not in fitted]
    if of_all or lacking:  # a fold without a row leaves out nobody
        n_more = round(n_rounds * len(parts) / max(len(parts) - 1, 1))  # more rows bear more rounds
        whole = _described(boost(torch.arange(len(x)), None, n_rounds=n_more)[0], n_more)
        fitted |= dict.fromkeys([*lacking, n_folds], whole)
    return TreeFit([fitted[fold] for fold in sorted(fitted)], held_out)


def _described(booster: Any, n_rounds: int) -> list[dict[str, Any]]:
    return [tree["tree_structure"] for tree in booster.dump_model(num_iteration=n_rounds)["tree_info"]]


def _boost(
    lightgbm: Any, settings: dict[str, Any], table: NDArray[np.float32], loss: Loss, weight: Tensor,
    inside: Tensor, outside: Tensor | None, *, n_outputs: int, n_rounds: int = MAX_ROUNDS,
) -> tuple[Any, int]:  # fmt: skip
    n = len(table)

    def spread(raw: Floats, rows: Tensor) -> Tensor:
        """Places evidence of some rows among all: losses know all rows only."""
        every = torch.zeros(1, n, n_outputs, dtype=torch.float64)
        every[0, rows] = torch.from_numpy(np.ascontiguousarray(raw)).view(len(rows), n_outputs)
        return every

    def objective(raw: Floats, _: Any) -> tuple[Floats, Floats]:
        evidence = spread(raw, inside).requires_grad_()
        (slope,) = torch.autograd.grad((loss(evidence) * weight).sum(), evidence, create_graph=True)
        curvature = torch.stack(
            [
                torch.autograd.grad(slope[..., k].sum(), evidence, retain_graph=True)[0][..., k]
                for k in range(n_outputs)
            ],
            -1,
        )
        first, second = slope.detach()[0, inside], curvature[0, inside].clamp(min=MIN_CURVATURE)
        second = torch.minimum(second, weight[inside, None] * 10.0)
        return (first.squeeze(1).numpy(), second.squeeze(1).numpy()) if n_outputs == 1 else (
            first.numpy(), second.numpy()
        )  # fmt: skip

    def score(raw: Floats, _: Any) -> tuple[str, float, bool]:
        assert outside is not None
        with torch.no_grad():
            each = loss(spread(raw, outside)) * weight
        return "loss", float(each[0, outside].mean()), False

    data = lightgbm.Dataset(table[inside.numpy()], np.zeros(len(inside)), free_raw_data=False)
    extra: dict[str, Any] = {}
    if outside is not None:
        held_out = lightgbm.Dataset(table[outside.numpy()], np.zeros(len(outside)), reference=data)
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        extra = {"valid_sets": [held_out], "feval": score, "callbacks": [stop]}
    booster = lightgbm.train(settings | {"objective": objective}, data, n_rounds, **extra)
    return booster, int(booster.best_iteration) if outside is not None else n_rounds


def join_trees(fits: Sequence[tuple[Sequence[dict[str, Any]], slice, float]], n_outputs: int) -> Trees | None:
    """Joins described trees of several tasks to one module; each has its columns among the outputs, and a factor."""
    described = [
        (tree, columns.start + i % (columns.stop - columns.start), factor)
        for fitted, columns, factor in fits
        if factor
        for i, tree in enumerate(fitted)
        if "split_feature" in tree  # else a single leaf: the data had no split
    ]
    if not described:
        return None
    flat = [_flatten(tree) for tree, _, _ in described]
    sizes = TreeSizes(len(flat), max(len(nodes) for nodes, _, _ in flat), max(depth for _, _, depth in flat))
    trees = Trees(sizes, n_outputs)
    for i, ((nodes, leaves, _), (_, output, factor)) in enumerate(zip(flat, described, strict=True)):
        for k, node in enumerate(nodes):
            trees.column[i, k], trees.empty_left[i, k] = node.column, node.empty_left
            trees.threshold[i, k] = float(_below(node.threshold))
            trees.branches[i, k] = torch.tensor([node.left, node.right])
        trees.leaf[i, : len(leaves)] = torch.tensor(leaves) * factor
        trees.output[i] = output
    return trees


@dataclass
class _Node:
    column: int
    threshold: float
    empty_left: bool
    left: int = 0
    right: int = 0


def _flatten(tree: dict[str, Any]) -> tuple[list[_Node], list[float], int]:
    """Returns inner nodes (the root first), leaf values, and the depth of a tree that LightGBM described."""
    nodes: list[_Node] = []
    leaves: list[float] = []

    def visit(part: dict[str, Any]) -> tuple[int, int]:
        if "split_feature" not in part:
            leaves.append(float(part["leaf_value"]))
            return -len(leaves), 0
        threshold = float(part["threshold"])
        sees_empty = part["missing_type"] == "NaN"
        node = _Node(part["split_feature"], threshold, part["default_left"] if sees_empty else threshold >= 0.0)
        nodes.append(node)
        place = len(nodes) - 1
        node.left, left = visit(part["left_child"])
        node.right, right = visit(part["right_child"])
        return place, 1 + max(left, right)

    _, depth = visit(tree)
    return nodes, leaves, depth


def _below(threshold: float) -> np.float32:
    """Returns the largest float32 that is not above the threshold: a float32 compares with both alike."""
    with np.errstate(over="ignore"):  # LightGBM's bound of the last bin is 1e300
        near = np.float32(threshold)
    return np.nextafter(near, np.float32(-np.inf)) if float(near) > threshold else near
