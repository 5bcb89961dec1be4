"""Rules that write the identifiers of all tables alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from multimodn.data.keys import key_problems, quoted, with_keys
from multimodn.errors import DataError, shown
from multimodn.study.keys import KeySpec


def key_rules(
    frames: Mapping[str, pd.DataFrame], first: Sequence[str]
) -> tuple[dict[str, pd.DataFrame], dict[str, tuple[KeySpec, str]]]:
    """Finds how identifiers that tables spell differently must be rewritten.

    Args:
        frames: The tables, indexed by patient.
        first: Those whose spelling is kept if possible, such as the tables of the targets.

    Returns:
        The tables with their identifiers rewritten, and for each table that needs a rule the rule and what it does.
    """
    rewritten, rules = dict(frames), dict[str, tuple[KeySpec, str]]()
    for _ in range(len(frames)):  # a rule may show the need of another
        order = {name: rewritten[name].index for name in [*first, *(name for name in frames if name not in first)]}
        found = [one for one in key_problems(order, {}, must_meet=False) if one.repair is not None]
        if not found:
            break
        problem = found[0]
        pairs = [f"{quoted(a)} is {quoted(b)} elsewhere" for a, b in zip(problem.here, problem.there, strict=True)]
        for name in frames if problem.is_for_all else [problem.source]:
            rule = rules[name][0] if name in rules else KeySpec()
            rule = rule.model_copy(update=problem.repair.model_dump() if problem.repair else {})
            try:
                rewritten[name] = with_keys(frames[name], rule, several_rows=not frames[name].index.is_unique)
            except DataError:  # two patients would become one: for the reader to decide
                continue
            rules[name] = (rule, f"{problem.n_alike} identifiers are spelled differently: {shown(pairs, 2)}")
    return rewritten, rules
