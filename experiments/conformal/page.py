"""The page of the study, in Markdown."""

from __future__ import annotations

import pandas as pd

from multimodn.evaluate.results import markdown

HOW = """# Conformal sets by presence pattern

Written by `python experiments/conformal/run.py`; the numbers, pattern by pattern, are in `results.csv`, settings and
versions in `run.json`. Sets promise to hold the truth with 90 %.

Arms: `held out`: what `fit_conformal()` does, each member's held-out patients, and patients of the very pattern where
there are 50 (`own`); `cohort`: the same model, calibrated on {calibration} patients of their own
(`fit_conformal(calibration=...)`); `held out, blanked only`: without `own`, that is CP-MDA-Exact and -Nested of Zaffran
et al. (2023).

- `within`: in how many repeats 90 % lies in the 95 % binomial interval of the coverage; `reached`: in it or below, as
  sets promise at least 90 %. A binomial interval does not know that few calibration patients leave a coverage that
  differs from calibration to calibration; `expected` counts coverages in the range that allows for it (beta-binomial).
- Patterns: those with at least 10 test and 50 calibration patients; `lowest` and `highest`: mean coverage of a pattern.
- Survival: patients are weighted for censoring; `survival, true times` counts the times that the simulation drew, and
  no weights.
"""

SIMULATION = """
## Simulation

{seeds} repeats of 1,500 training patients and 2,000 test patients, four modalities, two members. `mcar`: each of three
modalities is lost with a chance of 30 %; `mar`: with 60 % where a number of the fourth, which is always there, is above
its median; `mnar`: two modalities are lost with 60 % where the binary outcome is positive. The choice to use `own` was
made on seeds 0 to 4 and 100 to 103 of this simulation; these are 200 and the next.
"""

MNAR = """
## Where missingness depends on the outcome and changes

Trained and calibrated under `mnar`. No method promises anything once the mechanism changes: calibration patients then
are not like the test patients, and nothing in the data says so. `own` follows the training mechanism most closely: best
while it lasts. Mean coverage by pattern, tasks whose outcome decides what is missing or is close to it:
"""

HANCOCK = """
## HANCOCK, out of fold

763 patients, 5 folds, the study of `experiments/hancock`, each patient once; intervals are binomial over patients. The
natural pattern of missing modalities, and test patients who lost the pathological and the blood table with a chance of
60 % if they died (`mnar`) or did not (`flipped`); training stayed natural, so that nothing is promised there. Only the
complete pattern has 50 patients of its own, so that `held out, blanked only` is the same (`results.csv`).
"""


def page(simulated: pd.DataFrame, real: pd.DataFrame, seeds: int, calibration: int) -> str:
    """Writes the page.

    Args:
        simulated: Of `multimodn.evaluate.performance.conformal_coverage.summary`, with ``condition`` and ``arm``.
        real: Of `multimodn.evaluate.performance.conformal_coverage.tabulate`, with the same.
        seeds: Repeats of the simulation.
        calibration: Patients of the calibration cohort.
    """
    parts = [HOW.format(calibration=calibration), SIMULATION.format(seeds=seeds)]
    for condition in ("mcar", "mar", "mnar"):
        parts += [f"\n### {condition}\n", markdown(_by_task(simulated[simulated["condition"] == condition]))]
    parts += [MNAR, markdown(_by_pattern(simulated)), HANCOCK]
    ours = real[real["arm"] == "held out"]
    parts += [markdown(_real(ours[ours["pattern"] == "all"], with_pattern=False))]
    natural = ours[ours["condition"] == "hancock"]
    parts += ["\nBy pattern, natural, `held out`:\n", markdown(_real(_calibrated(natural), with_pattern=True))]
    return "\n".join(parts) + "\n"


def _calibrated(found: pd.DataFrame) -> pd.DataFrame:
    """Rows of single patterns with enough calibration patients."""
    return found[(found["method"] != "") & (found["n_calibration"].astype(float) >= 50)]


def _by_task(found: pd.DataFrame) -> pd.DataFrame:
    lines = []
    for (arm, task), part in found.groupby(["arm", "task"], sort=False):
        whole, each = part[part["pattern"] == "all"].iloc[0], _calibrated(part)
        often = each.groupby("pattern")["repeats"].sum()
        often = often[often >= often.max() / 2].index  # a pattern that was seen in a few repeats has no mean yet
        means = each[each["pattern"].isin(often)].groupby("pattern").apply(_mean, include_groups=False)
        n, expected = int(each["repeats"].sum()), each["expected"].astype(float)
        lines.append(
            {
                "arm": arm,
                "task": task,
                "coverage": f"{whole['coverage']:.3f} ± {whole['standard_error']:.3f}",
                "within": f"{whole['within']:.0f}/{whole['repeats']}",
                "reached": f"{whole['reached']:.0f}/{whole['repeats']}",
                "size": f"{whole['size']:.2f}",
                "abstained": f"{whole['abstained']:.2f}",
                "patterns: lowest": f"{means.min():.3f}",
                "highest": f"{means.max():.3f}",
                "within ": f"{each['within'].sum() / n:.0%}",
                "reached ": f"{each['reached'].sum() / n:.0%}",
                "expected": f"{expected.sum() / n:.0%}" if expected.notna().any() else "",
            }
        )
    return pd.DataFrame(lines)


def _mean(part: pd.DataFrame) -> float:
    return float((part["coverage"] * part["repeats"]).sum() / part["repeats"].sum())


def _by_pattern(found: pd.DataFrame) -> pd.DataFrame:
    tasks = ["outcome", "stage", "survival, true times"]
    chosen = found[found["condition"].str.startswith("mnar") & found["task"].isin(tasks)]
    chosen = chosen[~chosen["pattern"].str.startswith("other")]
    means = chosen.groupby(["task", "pattern", "arm", "condition"], sort=False).apply(_mean, include_groups=False)
    return means.unstack("condition").reset_index()


def _real(found: pd.DataFrame, *, with_pattern: bool) -> pd.DataFrame:
    lines = []
    everything = max((str(name).split("+") for name in found["pattern"]), key=len, default=[])
    for row in found.to_dict("records"):
        place = {"test": row["condition"]}
        if with_pattern:
            lacks = [name for name in everything if name not in row["pattern"].split("+")]
            place = {"pattern": f"without {' and '.join(lacks)}" if lacks else "complete", "method": row["method"]}
            place["calibration"] = f"{row['n_calibration']:.0f}"
        lines.append(
            place
            | {
                "task": row["task"],
                "n": row["n"],
                "coverage": row["coverage"],
                "95 % interval": f"{row['low']:.3f} to {row['high']:.3f}",
                "within": "yes" if row["within"] else "no",
                "reached": "yes" if row["reached"] else "no",
                "size": f"{row['size']:.2f}",
                "abstained": f"{row['abstained']:.2f}",
            }
        )
    return pd.DataFrame(lines)
