"""The settings of a search: a space of ranges and lists, each with the study's own value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from pydantic import ValidationError

from multimodn.errors import StudyError, did_you_mean, raise_all
from multimodn.study.study import ModalitySpec, Study, TrainingSpec
from multimodn.study.yaml_file import located, read_yaml_file, worded

if TYPE_CHECKING:
    from optuna.trial import Trial

Setting = None | bool | int | float | str  # a value of a key in a study file
KEEP = "study"  # in a list: each modality keeps its value of the study
EVERY = "*"
FIXED = {  # keys of the training section that are not searched, and why
    "seed": "a lucky seed is not a better setting",
    "members": "how many networks a trial trains is the argument `members`, and the study keeps its own",
    "loggers": "it does not change the model",
}
RANGE = ("low", "high", "log")


@dataclass(frozen=True)
class Dimension:
    """One setting that is searched: a list of choices or a range."""

    name: str  # such as training.penalty or modalities.*.dropout
    places: tuple[str, ...]  # the modalities whose option it is; empty: it is in the training section
    default: Setting  # the study's own value, or KEEP where its modalities differ
    choices: tuple[Setting, ...] = ()  # empty: it is a range
    low: float = 0.0
    high: float = 0.0
    log: bool = False  # whether values of the range are uniform on the logarithmic scale

    @property
    def key(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    def suggest(self, trial: Trial) -> Setting:
        """Asks a trial of Optuna for a value."""
        if self.choices:
            return trial.suggest_categorical(self.name, self.choices)
        if isinstance(self.default, int):
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Space:
    """All dimensions of a search."""

    dimensions: tuple[Dimension, ...]

    @property
    def default(self) -> dict[str, Setting]:
        """The study's own settings."""
        return {one.name: one.default for one in self.dimensions}

    def suggest(self, trial: Trial) -> dict[str, Setting]:
        """Asks a trial of Optuna for a value of each dimension."""
        return {one.name: one.suggest(trial) for one in self.dimensions}

    def apply(self, study: Study, settings: Mapping[str, Setting]) -> Study:
        """Returns the study with some settings; a StudyError says which are invalid or do not fit together."""
        training: dict[str, Setting] = {}
        options: dict[str, dict[str, Setting]] = {}
        for one in self.dimensions:
            value = settings.get(one.name, one.default)
            if not one.places:
                training[one.key] = value
            elif value != KEEP:
                for place in one.places:
                    options.setdefault(place, {})[one.key] = value
        modalities = [_with_options(each, options.get(each.name, {})) for each in study.modalities]
        spec = TrainingSpec(**{**study.training.model_dump(), **training})
        return study.model_copy(update={"training": spec, "modalities": modalities})

    def to_dict(self) -> list[dict[str, Any]]:
        """Returns what `json` can write."""
        return [asdict(one) for one in self.dimensions]


def read_space(path: Path) -> Mapping[str, Any]:
    """Reads a file with a space, for `build_space`."""
    given = read_yaml_file(path, "space")
    if not isinstance(given, Mapping) or not given:
        example = "`training.penalty: {low: 0.1, high: 10, log: true}`"
        raise StudyError(f"{path}: expected a mapping such as {example}, found {given!r:.60}.")
    return given


def build_space(study: Study, given: Mapping[str, Any], widths: Mapping[str, int]) -> Space:
    """Builds a space from names and ranges.

    A name is ``training.KEY``, ``modalities.NAME.OPTION`` or ``modalities.*.OPTION``; the star means all modalities
    that have the option and accept all values; for ``n_components`` those with more columns than components. A range
    is ``{low, high, log}``, a list holds values. The study's own value is added where missing, as it is always tried.
    ``widths``: number of columns of each modality.

    Raises:
        StudyError: Listing every unknown name, with the nearest word, and every invalid value.
    """
    problems: list[str] = []
    dimensions: list[Dimension] = []
    for name, range_ in given.items():
        try:
            places = places_of(study, str(name), range_, widths)
            if places is None:
                raise StudyError("no modality has this option and accepts all these values.")
            dimension = _dimension(str(name), places, _current(study, str(name), places), range_)
            for value in dimension.choices or (dimension.low, dimension.high):  # if these are valid, all are
                Space((dimension,)).apply(study, {dimension.name: value})
            dimensions.append(dimension)
        except StudyError as error:
            problems.append(f"{name}: {error}")
    raise_all(problems, StudyError, "The space cannot be searched")
    if not dimensions:
        raise StudyError("The space is empty: there is nothing to search.")
    return Space(tuple(dimensions))


def places_of(study: Study, name: str, range_: Any, widths: Mapping[str, int]) -> tuple[str, ...] | None:
    """Returns the modalities of a name: () = the training section, None = a star that matches no modality."""
    section, _, rest = name.partition(".")
    if section == "training":
        if rest in FIXED:
            raise StudyError(f"'{rest}' is not searched: {FIXED[rest]}.")
        tunable = [key for key in TrainingSpec.model_fields if key not in FIXED]
        if rest not in tunable:
            raise StudyError(f"unknown key '{rest}'.{did_you_mean(rest, tunable)}")
        return ()
    if section != "modalities":
        raise StudyError(f"unknown section '{section}'.{did_you_mean(section, ['training', 'modalities'])}")
    who, _, option = rest.partition(".")
    by_name = {modality.name: modality for modality in study.modalities}
    if who != EVERY and who not in by_name:
        raise StudyError(f"unknown modality '{who}'.{did_you_mean(who, [*by_name, EVERY])}")
    asked = list(by_name.values()) if who == EVERY else [by_name[who]]
    options = {key for modality in asked for key in type(modality.options).model_fields}
    if option not in options:
        raise StudyError(f"unknown option '{option}'.{did_you_mean(option, options)}")
    if who != EVERY:
        return (who,)
    return tuple(each.name for each in asked if _accepts(each, option, range_, widths.get(each.name))) or None


def _accepts(modality: ModalitySpec, option: str, range_: Any, width: int | None) -> bool:
    if option not in type(modality.options).model_fields:
        return False
    if isinstance(range_, Mapping):
        given = [range_[end] for end in ("low", "high") if end in range_]
    else:
        given = list(range_) if isinstance(range_, Sequence) and not isinstance(range_, str) else []
    values = [value for value in given if value != KEEP]
    if option == "n_components":
        is_projected = getattr(modality.options, "numeric", "auto") in {"auto", "scaled"}
        most = max((value for value in values if isinstance(value, int | float)), default=0)
        if not is_projected or (width is not None and width <= most):
            return False
    data = modality.options.model_dump()
    try:
        for value in values:
            type(modality.options).model_validate({**data, option: value})
    except ValueError:
        return False
    return True


def _current(study: Study, name: str, places: Sequence[str]) -> Setting:
    """The study's own value; `KEEP` where modalities differ."""
    key = name.rpartition(".")[2]
    if not places:
        own: Setting = getattr(study.training, key)
        return own
    values = [getattr(modality.options, key) for modality in study.modalities if modality.name in places]
    if any(not isinstance(value, Setting) for value in values):
        raise StudyError("a search tries single values; this option is a list.")
    alike = all(value == values[0] and type(value) is type(values[0]) for value in values)
    return values[0] if alike else KEEP


def _dimension(name: str, places: tuple[str, ...], default: Setting, range_: Any) -> Dimension:
    if isinstance(range_, Mapping):
        return _range(name, places, default, range_)
    if not isinstance(range_, Sequence) or isinstance(range_, str) or not range_:
        raise StudyError(f"expected a list of values or {{low, high, log}}, found {range_!r:.60}.")
    if any(not isinstance(value, Setting) for value in range_):
        raise StudyError("the list must hold single values.")
    values = [float(value) if type(default) is float and type(value) is int else value for value in range_]
    choices = dict.fromkeys([(type(value), value) for value in [*values, default]])
    return Dimension(name, places, default, tuple(value for _, value in choices))


def _range(name: str, places: tuple[str, ...], default: Setting, range_: Mapping[Any, Any]) -> Dimension:
    for key in range_:
        if key not in RANGE:
            raise StudyError(f"unknown key '{key}' of a range.{did_you_mean(str(key), RANGE)}")
    low, high, log = range_.get("low"), range_.get("high"), range_.get("log", False)
    if not (_is_number(low) and _is_number(high) and isinstance(log, bool) and low < high):
        raise StudyError(f"expected {{low: number, high: larger number, log: true or false}}, found {dict(range_)!r}.")
    if not _is_number(default):
        why = "the modalities differ in it" if default == KEEP else f"the study's own value is {default}"
        raise StudyError(f"a range must contain the study's own value, but {why}; write a list of values.")
    if isinstance(default, int) and not (isinstance(low, int) and isinstance(high, int)):
        raise StudyError("this key needs whole numbers: write low and high without a decimal point.")
    low, high = min(low, default), max(high, default)
    if log and low <= 0:
        raise StudyError(f"a range with `log: true` must be above 0, but its lowest value or the study's own is {low}.")
    return Dimension(name, places, default, (), low, high, log)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _with_options(modality: ModalitySpec, changed: Mapping[str, Setting]) -> ModalitySpec:
    if not changed:
        return modality
    try:
        options = type(modality.options).model_validate({**modality.options.model_dump(), **changed})
    except ValidationError as error:
        problems = "; ".join(worded(located(error, list(type(modality.options).model_fields))))
        raise StudyError(f"modality '{modality.name}': {problems}") from None
    return modality.model_copy(update={"options": options})
