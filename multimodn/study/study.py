"""The study: patients, modalities, tasks, split and training.

A study is a YAML file or the same built in Python; every part checks itself, and the whole checks how the parts fit.
What depends on the data, such as whether a column exists, is checked when a cohort is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, PrivateAttr, ValidationError, ValidationInfo, ValidatorFunctionWrapHandler, field_validator

from multimodn.errors import StudyError, did_you_mean, raise_all
from multimodn.study.card import CardSpec
from multimodn.study.checks import registry_problems, repeated_names, unknown_sources
from multimodn.study.sources import CohortSpec, RegistrySpec, SourceSpec, check_name
from multimodn.study.specs import AllBut, ModalitySpec, RepeatSpec, TaskSpec
from multimodn.study.split import ColumnSplit, FileSplit, RandomSplit, SplitFiles, SplitSpec
from multimodn.study.time import IndexSpec, WindowSpec
from multimodn.study.training import TrainingSpec
from multimodn.study.yaml_file import Problem, Spec, SpecError, located, read_yaml_file, worded, write_yaml

__all__ = [
    "AllBut", "CardSpec", "CohortSpec", "ColumnSplit", "FileSplit", "IndexSpec", "ModalitySpec", "RandomSplit",
    "RegistrySpec", "RepeatSpec", "SourceSpec", "SplitFiles", "SplitSpec", "Study", "TaskSpec", "TrainingSpec",
    "WindowSpec",
]  # fmt: skip


class Study(Spec):
    """A study; parts may be given as objects or as the mappings of a file.

    Attributes:
        name: Its name.
        cohort: Key, grouping key and sources.
        modalities: The inputs.
        tasks: The targets.
        index: Each patient's moment of prediction, such as ``admission_date``, a column of the first task's source:
            what lies after it reaches no prediction, and times count from it. See `IndexSpec`.
        cohorts: Several registries with different patients, and perhaps different labels and modalities, that train
            one model: for each its differences from ``cohort``. A patient of the registry ``north`` is ``north/0417``.
        order: All modalities in the order of a trajectory; a repeated one may stand for all its steps in their order.
        split: Training patients, validation patients for early stopping, and test patients for evaluation only.
        missingness: What predictions may learn from the presence of modalities. ``neutral``: nothing about the outcome.
            ``informative``: presence is an input, for use only where modalities are missing for the same reasons as in
            the data. ``off``: plain skipping, which learns from presence implicitly.
        presence_covariates: Complete columns, as ``modality.column``, on which presence depends beside the outcome,
            such as age or site; only ``neutral`` uses them.
        subgroups: Columns, as ``modality.column``, for which performance is reported by subgroup, such as sex or age.
        training: How to train.
        card: Information for the model card that is not in the data.

    Raises:
        StudyError: On construction, listing every problem with its place and the nearest valid word.
    """

    name: str
    cohort: CohortSpec
    modalities: list[ModalitySpec] = Field(min_length=1)
    tasks: list[TaskSpec] = Field(min_length=1)
    index: IndexSpec | None = Field(default=None, validate_default=True)
    cohorts: dict[str, RegistrySpec] = Field(default_factory=dict)
    order: list[str] = Field(default_factory=list, validate_default=True)
    split: SplitSpec = Field(default_factory=RandomSplit, validate_default=True)
    missingness: Literal["neutral", "informative", "off"] = "neutral"
    presence_covariates: list[str] = Field(default_factory=list)
    subgroups: list[str] = Field(default_factory=list)
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    card: CardSpec = Field(default_factory=CardSpec)
    _folder: Path = PrivateAttr(default=Path())

    def __init__(self, *, folder: str | Path = ".", **data: Any) -> None:
        try:
            super().__init__(**data)
        except SpecError as error:
            raise_all(worded(error.problems), StudyError, f"Study '{data.get('name', '')}'")
        self._folder = Path(folder)

    @property
    def folder(self) -> Path:
        """The folder of relative sources; not part of the dump."""
        return self._folder

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a study file; its folder becomes the study's.

        Raises:
            StudyError: If the file does not exist, is not YAML or is not a study; every problem is listed.
        """
        path = Path(path)
        return cls.from_dict(read_yaml_file(path, "study file"), path.parent, header=str(path))

    @classmethod
    def from_dict(cls, data: Any, folder: str | Path = ".", *, header: str | None = None) -> Self:
        """Builds a study from the content of a file.

        Args:
            data: A mapping as `to_dict` returns it.
            folder: The folder of relative sources.
            header: The beginning of an error, such as the path of the file.

        Raises:
            StudyError: If it is not a study; every problem is listed.
        """
        if not isinstance(data, Mapping):
            raise StudyError(f"{header or 'Study'}: expected a mapping with name, cohort, ..., found {data!r:.60}.")
        if "folder" in data or not all(isinstance(key, str) for key in data):
            valid = list(cls.model_fields)
            wrong = [str(key) for key in data if key not in valid]
            raise StudyError(f"{header or 'Study'}: unknown key '{wrong[0]}'.{did_you_mean(wrong[0], valid)}")
        try:
            return cls(folder=folder, **data)
        except StudyError as error:
            if header is None:
                raise
            _, _, rest = str(error).partition(": ")
            raise StudyError(f"{header}: {rest}") from None

    def to_dict(self) -> dict[str, Any]:
        """Returns a mapping for `json` that `from_dict` reads back."""
        data = self.model_dump(mode="json")
        without = [key for key in ("cohorts", "index") if not data[key]]
        return {key: value for key, value in data.items() if key not in without}

    def to_yaml(self) -> str:
        """Returns the study as a file's text."""
        return write_yaml(self.to_dict())

    @field_validator("name")
    @classmethod
    def _some_name(cls, name: str) -> str:
        if not name.strip():
            raise ValueError("the study needs a name.")
        return name

    @field_validator("cohort")
    @classmethod
    def _source_names(cls, cohort: CohortSpec) -> CohortSpec:
        for name in cohort.sources:
            check_name(name)
        return cohort

    @field_validator("modalities", "tasks", mode="wrap")
    @classmethod
    def _fitting_parts(cls, parts: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """Checks names and sources even if the parts have other problems, so that all are reported."""
        problems: list[Problem] = []
        checked = None
        try:
            checked = handler(parts)
        except ValidationError as error:
            problems += located(error, [])
        if isinstance(parts, Sequence) and not isinstance(parts, str):
            problems += repeated_names(parts) + unknown_sources(parts, info.data.get("cohort"))
        if problems:
            raise SpecError(problems)
        return checked

    @property
    def steps(self) -> dict[str, ModalitySpec]:
        """The modality of each step, by the step's name."""
        return {name: modality for modality in self.modalities for name in modality.step_names}

    @property
    def seen(self) -> dict[str, list[str]]:
        """The steps that each task may see."""
        return {
            task.name: [name for name, modality in self.steps.items() if task.name not in modality.exclude_for]
            for task in self.tasks
        }

    def expanded(self, order: Sequence[str]) -> list[str]:
        """Writes a repeated modality in an order as all its steps, from the first reading to the last."""
        return _expanded(order, self.modalities)

    @field_validator("tasks")
    @classmethod
    def _some_input_for_each(cls, tasks: list[TaskSpec], info: ValidationInfo) -> list[TaskSpec]:
        modalities: list[ModalitySpec] = info.data.get("modalities", [])
        names = [task.name for task in tasks]
        problems: list[Problem] = [
            ((), f"modality '{modality.name}' excludes itself for an unknown task '{name}'.{did_you_mean(name, names)}")
            for modality in modalities
            for name in modality.exclude_for
            if name not in names
        ]
        for i, name in enumerate(names):
            if modalities and all(name in modality.exclude_for for modality in modalities):
                text = f"every modality is excluded for '{name}': nothing is left to predict it from."
                problems.append(((i, "name"), text))
        if problems:
            raise SpecError(problems)
        return tasks

    @field_validator("index")
    @classmethod
    def _known_source(cls, index: IndexSpec | None, info: ValidationInfo) -> IndexSpec | None:
        if index is not None and index.source is not None and "cohort" in info.data:
            sources = list(info.data["cohort"].sources)
            if index.source not in sources:
                text = f"unknown source '{index.source}'.{did_you_mean(index.source, sources)}"
                raise SpecError([(("source",), text)])
        windows = [spec.name for spec in info.data.get("modalities", []) if spec.window is not None]
        if index is None and windows:
            raise ValueError(f"the `window` of {', '.join(windows)} needs an `index`, the moment from which it counts.")
        return index

    @field_validator("cohorts")
    @classmethod
    def _fitting_registries(cls, cohorts: dict[str, RegistrySpec], info: ValidationInfo) -> dict[str, RegistrySpec]:
        parts = info.data
        if cohorts and {"cohort", "modalities", "tasks"} <= set(parts):
            problems = registry_problems(cohorts, parts["cohort"], parts["modalities"], parts["tasks"])
            if problems:
                raise SpecError(problems)
        return cohorts

    @field_validator("order")
    @classmethod
    def _permutation(cls, order: list[str], info: ValidationInfo) -> list[str]:
        if "modalities" not in info.data:
            return order
        modalities: list[ModalitySpec] = info.data["modalities"]
        names = [step for modality in modalities for step in modality.step_names]
        if not order:
            return names
        order = _expanded(order, modalities)
        unknown = [name for name in order if name not in names]
        if unknown:
            raise ValueError(f"unknown modality '{unknown[0]}'.{did_you_mean(unknown[0], names)}")
        if sorted(order) != sorted(names):
            missing = [name for name in names if name not in order]
            fault = f"{', '.join(missing)} is missing" if missing else "a modality is named twice"
            raise ValueError(f"every modality must be in the order once, but {fault}.")
        return order

    @field_validator("presence_covariates", "subgroups")
    @classmethod
    def _columns_of_modalities(cls, columns: list[str], info: ValidationInfo) -> list[str]:
        names = [step for modality in info.data.get("modalities", []) for step in modality.step_names]
        for name in columns:
            modality, _, column = name.partition(".")
            if not column:
                raise ValueError(f"'{name}' does not name a column; write modality.column.")
            if names and modality not in names:
                raise ValueError(f"unknown modality '{modality}'.{did_you_mean(modality, names)}")
        is_used = info.field_name != "presence_covariates" or info.data.get("missingness", "neutral") == "neutral"
        if columns and not is_used:
            raise ValueError("covariates of presence are used by `missingness: neutral` only; remove them.")
        return columns

    @field_validator("split")
    @classmethod
    def _split_words(cls, split: SplitSpec, info: ValidationInfo) -> SplitSpec:
        key, what, word, names = "", "", None, []
        if isinstance(split, RandomSplit) and "tasks" in info.data:
            key, what, word, names = "stratify", "task", split.stratify, [task.name for task in info.data["tasks"]]
        elif isinstance(split, ColumnSplit) and "cohort" in info.data:
            key, what, word, names = "source", "source", split.source, list(info.data["cohort"].sources)
        if word is not None and word not in names:
            raise SpecError([((key,), f"unknown {what} '{word}'.{did_you_mean(word, names)}")])
        return split


def _expanded(order: Sequence[str], modalities: Sequence[ModalitySpec]) -> list[str]:
    steps = {modality.name: modality.step_names for modality in modalities}
    return [step for name in order for step in steps.get(name, [name])]
