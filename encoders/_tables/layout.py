"""Options of a table, and its layout: which columns enter, and how."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import pandas as pd
from pydantic import Field

from multimodn.base.encoder import JSON, Options
from multimodn.encoders._layers import automatic_components
from multimodn.encoders._reading import check_columns, read_number_blocks
from multimodn.encoders._tables.columns import CategoricalColumn, ColumnKinds, check_declared, fit_levels, infer_kinds
from multimodn.encoders._tables.scaling import MAX_KNOTS, NumericColumn, Scaling, fit_column
from multimodn.errors import DataError, DataWarning, StudyError, raise_all, shown

HEADER = "Encoder 'table'"
REPAIR = "Clean these cells (empty = unknown), or declare the column under `categorical` and fit again."

Numeric = Literal["piecewise", "periodic", "scaled"]


class TableOptions(Options):
    """Options of a table modality.

    Attributes:
        embedding_size: Width of the embedding.
        hidden_size: Width of each hidden layer.
        n_layers: Hidden layers; 0 = a linear map.
        dropout: Share of hidden units (without hidden layers: of inputs) set to 0 in training.
        numeric: How a numeric column enters; ``auto`` = ``scaled`` in a wide table, else ``piecewise``.
        n_bins: Bins of the piecewise-linear encoding of a column.
        scaling: ``auto`` = ``standard`` (robust, log1p for skewed columns) in a wide table, else ``quantile``.
        categorical: Columns of codes, whatever the data suggest.
        numeric_columns: Columns of numbers, whatever the data suggest.
        indicate_empty: Whether the network sees which cells are empty, and so may learn from who was tested.
        n_components: Principal components that replace the numeric columns; ``auto`` = a third of the rows, at most 32,
            in a wide table, else none.
        units: The unit of a column, for reports.
    """

    embedding_size: int = Field(default=32, ge=1)
    hidden_size: int = Field(default=64, ge=1)
    n_layers: int = Field(default=2, ge=0)
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    numeric: Numeric | Literal["auto"] = "auto"
    n_bins: int = Field(default=4, ge=2)
    scaling: Scaling | Literal["auto"] = "auto"
    categorical: list[str] = Field(default=[])
    numeric_columns: list[str] = Field(default=[])
    indicate_empty: bool = False
    n_components: Annotated[int, Field(ge=1)] | Literal["auto"] | None = "auto"
    units: dict[str, str] = Field(default={})


@dataclass(frozen=True)
class TableLayout:
    """The layout of a table as decided on training rows."""

    numeric: list[NumericColumn]  # numeric columns
    categorical: list[CategoricalColumn]  # categorical columns
    dropped: dict[str, str]  # columns of no use, and the reason
    indicated: list[str]  # columns whose empty cells are an input
    encoding: Numeric  # how numeric columns enter
    scaling: Scaling  # how they are scaled
    n_knots: int  # quantiles kept of each column
    n_components: int | None  # principal components that replace the numeric columns; None = they enter one by one

    @property
    def columns(self) -> list[str]:
        """The columns that are read, numeric ones first."""
        return [column.name for column in self.numeric] + [column.name for column in self.categorical]

    @classmethod
    def from_config(cls, config: Mapping[str, JSON]) -> Self:
        """Rebuilds the layout from what ``dataclasses.asdict`` made of it."""
        numeric = [NumericColumn(**column) for column in config["numeric"]]
        categorical = [CategoricalColumn(**column) for column in config["categorical"]]
        return cls(**{**config, "numeric": numeric, "categorical": categorical})


def _plan(
    kinds: ColumnKinds, options: TableOptions, n_rows: int
) -> tuple[list[str], list[str], Numeric, Scaling, int | None]:
    """Returns the numeric columns, those of levels, encoding, scaling and number of components, before any fit."""
    # hundreds of 0/1 columns, such as mutations, are a wide table too
    automatic = automatic_components(n_rows, len(kinds.numeric) + len(kinds.two_valued))
    is_wide = automatic is not None
    n_components = automatic if options.n_components == "auto" else options.n_components
    if isinstance(options.n_components, int) and options.numeric in {"piecewise", "periodic"}:
        problem = f"`n_components` replaces the numeric columns, so `numeric: {options.numeric}` has nothing to encode."
        raise StudyError(f"{HEADER}: {problem} Leave one of them out.")
    automatic_choice: tuple[Numeric, Scaling]
    automatic_choice = ("scaled", "standard") if is_wide or n_components else ("piecewise", "quantile")
    encoding = automatic_choice[0] if options.numeric == "auto" else options.numeric
    scaling = automatic_choice[1] if options.scaling == "auto" else options.scaling
    numeric = kinds.numeric + (kinds.two_valued if is_wide else [])
    levels = kinds.categorical + ([] if is_wide else kinds.two_valued)
    return numeric, levels, encoding, scaling, n_components if encoding == "scaled" else None


def fit_layout(frame: pd.DataFrame, options: TableOptions) -> TableLayout:
    """Decides from training rows which columns enter, and how; means and components are fitted after it.

    Raises a DataError if no column is of use, or a cell cannot be read; a StudyError if the options name a column that
    does not exist, or contradict each other.
    """
    check_columns(frame, dict.fromkeys(frame.columns), HEADER)
    declared = {"categorical": options.categorical, "numeric_columns": options.numeric_columns}
    check_declared(frame, {**declared, "units": list(options.units)}, HEADER)
    kinds = infer_kinds(frame, options.categorical, options.numeric_columns, HEADER)
    numeric_names, level_names, encoding, scaling, n_components = _plan(kinds, options, len(frame))
    problems = list[str]()
    of_numbers = dict[str, NumericColumn | None]()
    for block, numbers in read_number_blocks(frame, numeric_names, problems, REPAIR):
        for name, cells in zip(numeric_names[block], numbers, strict=True):
            of_numbers[name] = fit_column(name, cells, scaling, is_robust=True)
    raise_all(problems, DataError, HEADER)
    of_levels = {name: fit_levels(frame[name]) for name in level_names}
    numeric = [column for column in of_numbers.values() if column is not None]
    categorical = [column for column in of_levels.values() if isinstance(column, CategoricalColumn)]
    dropped = kinds.dropped | {name: "constant" for name, column in of_numbers.items() if column is None}
    dropped |= {name: column for name, column in of_levels.items() if isinstance(column, str)}
    fitted: list[NumericColumn | CategoricalColumn] = [*numeric, *categorical]
    report_dropped(dropped, len(fitted), len(frame), HEADER)
    if kinds.notes:
        warnings.warn(f"{HEADER}: {' '.join(kinds.notes)}", DataWarning, stacklevel=3)
    indicated = [column.name for column in fitted if column.n_empty and options.indicate_empty]
    n_components = min(n_components, len(numeric), len(frame)) if n_components and numeric else None
    n_knots = min(MAX_KNOTS, max(2, len(frame)))
    return TableLayout(numeric, categorical, dropped, indicated, encoding, scaling, n_knots, n_components)


def report_dropped(dropped: Mapping[str, str], n_kept: int, n_rows: int, header: str) -> None:
    """Warns of columns that are of no use; raises a DataError if no other column is left."""
    if not dropped and n_kept:
        return
    listed = shown([f"'{name}' ({why})" for name, why in dropped.items()]) or "there is none"
    if not n_kept:
        raise DataError(f"{header}: no column is of use in {n_rows} training rows: {listed}.")
    warnings.warn(f"{header}: columns left out: {listed}.", DataWarning, stacklevel=4)
