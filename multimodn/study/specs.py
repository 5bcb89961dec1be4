"""Modalities and tasks of a study; each part checks itself. Import them from `multimodn.study.study`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_serializer, model_validator

from multimodn import base
from multimodn.base.kinds import load_kind
from multimodn.study.sources import check_name
from multimodn.study.time import WindowSpec
from multimodn.study.yaml_file import UP, Spec, SpecError, located


class AllBut(Spec):
    """All columns of a source except the key and those in ``all_but``."""

    all_but: list[str]


class RepeatSpec(Spec):
    """Repeated readings of a modality: each is a step of its own, by the same encoder.

    Attributes:
        by: The column that orders the rows of a patient in time: numbers, dates, or text that differs by a number, such
            as ``visit 10``; no input unless ``columns`` names it; rows with the same value are one reading.
        most: The maximum number of readings per patient; the latest are used.
        order: The texts of ``by``, from the first to the last; for those whose order is not clear.
    """

    by: str
    most: int = Field(ge=2, le=16)
    order: list[str] | None = Field(default=None, min_length=2)

    @field_validator("order", mode="before")
    @classmethod
    def _texts(cls, order: Any) -> Any:
        if not isinstance(order, Sequence) or isinstance(order, str):
            return order
        texts = [str(text).strip() if isinstance(text, str | int | float) else text for text in order]
        twice = sorted({text for text in texts if isinstance(text, str) and texts.count(text) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is listed twice.")
        return texts


class _KindSpec(Spec):
    """What modalities and tasks share: a name, a kind, a source and the kind's own options beside them."""

    group: ClassVar[str]
    name: str
    kind: str
    source: str
    options: Any = Field(default_factory=dict, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, data: Any) -> Any:
        """Moves the keys of the kind into `options`, which the kind checks."""
        if not isinstance(data, Mapping):
            return data
        own = {key: value for key, value in data.items() if key in cls.model_fields}
        rest = {str(key): value for key, value in data.items() if key not in cls.model_fields}
        return {**own, "options": {**dict(own.get("options", {})), **rest}} if rest else own

    @field_validator("name")
    @classmethod
    def _valid_name(cls, name: str) -> str:
        return check_name(name)

    @field_validator("kind")
    @classmethod
    def _existing_kind(cls, kind: str) -> str:
        load_kind(cls.group, kind)
        return kind

    @field_validator("options", mode="plain")
    @classmethod
    def _options(cls, given: Any, info: ValidationInfo) -> base.Options:
        """Validates the kind's options; their problems are placed beside the spec's own keys, not below `options`."""
        if "kind" not in info.data:  # the kind itself is wrong and already reported
            return base.Options()
        options: type[base.Options] = load_kind(cls.group, info.data["kind"]).Options
        if isinstance(given, options):
            return given
        if not isinstance(given, Mapping):
            raise ValueError(f"expected {options.__qualname__} or a mapping, found {type(given).__name__}.")
        try:
            return options.model_validate(dict(given))
        except ValidationError as error:
            own = [name for name in cls.model_fields if name != "options"]
            raise SpecError([((UP, *w), text) for w, text in located(error, [*own, *options.model_fields])]) from None

    @model_serializer
    def _dump(self) -> dict[str, Any]:
        unwritten: dict[str, Any] = {"exclude_for": [], "repeats": None, "window": None, "cost": 1.0}
        given = {name: value for name, value in self if name not in unwritten or value != unwritten[name]}
        options: base.Options = given.pop("options")
        own = {
            name: value.model_dump(exclude_none=True) if isinstance(value, Spec) else value
            for name, value in given.items()
        }
        return {**own, **options.model_dump(mode="json")}


class ModalitySpec(_KindSpec):
    """One kind of input.

    Attributes:
        name: Its name.
        kind: An encoder kind, such as `table`.
        source: The source that holds it.
        columns: ``all`` (except the key), a list of names, or ``{all_but: [names]}``.
        exclude_for: Tasks that must not see it, such as one whose target it contains; no state that they read, in
            training or prediction, contains it.
        repeats: For modalities that are measured repeatedly.
        window: Which of its rows are used, by their time before the study's ``index``.
        cost: Cost of measuring it, in any unit; what to measure next is ranked by gain per cost.
        options: The encoder kind's options; a study file has them beside the other keys.
    """

    group: ClassVar[str] = "encoders"
    columns: Literal["all"] | list[str] | AllBut = "all"
    exclude_for: list[str] = Field(default_factory=list)
    repeats: RepeatSpec | None = None
    window: WindowSpec | None = None
    cost: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    @field_validator("columns", mode="before")
    @classmethod
    def _columns(cls, columns: Any) -> Any:
        if columns == "all" or isinstance(columns, AllBut):
            return columns
        if isinstance(columns, Mapping):
            return AllBut(**columns)
        if isinstance(columns, Sequence) and not isinstance(columns, str) and columns:
            wrong = [column for column in columns if not isinstance(column, str)]
            twice = sorted({str(column) for column in columns if list(columns).count(column) > 1})
            if not wrong and not twice:
                return list(columns)
            raise ValueError(f"{wrong} is not text; quote it." if wrong else f"{', '.join(twice)} is listed twice.")
        raise ValueError(f"expected all, a list of names or {{all_but: [names]}}, found {columns!r}.")

    @property
    def step_names(self) -> list[str]:
        """The names of its steps: its own, or ``name@1`` to ``name@most``, from the first reading to the last."""
        return [self.name] if self.repeats is None else [f"{self.name}@{k + 1}" for k in range(self.repeats.most)]

    @property
    def has_several_rows(self) -> bool:
        """Whether a patient may have several rows in its source."""
        return self.repeats is not None or self.takes_several_rows

    @property
    def takes_several_rows(self) -> bool:
        """Whether its kind reads several rows of a patient at once."""
        kind: type[base.Encoder] = load_kind("encoders", self.kind)
        return kind.several_rows

    @property
    def exact_columns(self) -> list[str]:
        """The columns of its source that are read as written, without a loss of digits."""
        columns: list[str] = load_kind("encoders", self.kind).exact_columns(self.options)
        return columns

    @property
    def time_columns(self) -> list[str]:
        """The columns of its source that its kind reads as times, that of its rows first."""
        columns: list[str] = load_kind("encoders", self.kind).time_columns(self.options)
        return columns

    @property
    def file_columns(self) -> list[str]:
        """The columns of its source that name files."""
        columns: list[str] = load_kind("encoders", self.kind).file_columns(self.options)
        return columns

    @property
    def verbatim_columns(self) -> list[str]:
        """The columns of its source that are read as the text that is written."""
        columns: list[str] = load_kind("encoders", self.kind).verbatim_columns(self.options)
        return columns


class TaskSpec(_KindSpec):
    """One thing to predict.

    Attributes:
        name: Its name.
        kind: A task kind, such as `binary`.
        source: The source that holds its target columns.
        options: The task kind's options, such as target columns; a study file has them beside the other keys.
    """

    group: ClassVar[str] = "tasks"

    @property
    def target_columns(self) -> list[str]:
        """The columns of the source that the task reads."""
        columns: list[str] = load_kind("tasks", self.kind).target_columns(self.options)
        return columns
