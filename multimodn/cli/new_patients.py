"""New patients of a command line: which file is which source of the study; all commands take them alike."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from multimodn.data.cohort import Cohort
    from multimodn.model.multimodn import MultiModN
    from multimodn.study.study import SourceSpec, Study

STUDIES = (".yaml", ".yml")


def chosen_cohort(
    model: MultiModN, new: Sequence[str] | None, source: Sequence[str] | None = None, *, labelled: bool = False
) -> Cohort:
    """Loads exactly the patients of the files given; without files those of the study's own sources.

    Args:
        model: The model.
        new: Files, each as NAME=PATH or a path alone, whose source is then known by the name of the file or by its
            columns; or one study file.
        source: More files as NAME=PATH.
        labelled: Whether targets are needed.

    Raises:
        StudyError: If it is not clear which source a file is, or two files are the same source.
        DataError: If the files cannot be used.

    Warns:
        DataWarning: Which source each path without a name was taken for by its columns, and which files hold only
            targets that are not needed.
    """
    from multimodn.data.cohort import Cohort
    from multimodn.data.new_patients import new_cohort
    from multimodn.data.sources import replaced_sources
    from multimodn.errors import StudyError
    from multimodn.external.validate import external_cohort
    from multimodn.study.study import Study

    studies = [text for text in new or [] if text.endswith(STUDIES)]
    if studies:
        if source or len(new or []) > 1:
            raise StudyError(f"{studies[0]} is a study file: give it alone, the other study names its own sources.")
        return external_cohort(model, Study.load(studies[0]), labelled=labelled)
    if not new and not source:
        return Cohort.load(model.study, labelled=labelled)
    named = _by_source(model, new or [], dict(replaced_sources(source) or {}), labelled=labelled)
    if not labelled:
        named = _without_targets(model.study, named)
    return new_cohort(model.study, {name: _as_source(model.study, name, path) for name, path in named.items()},
                      labelled=labelled)  # fmt: skip


def with_modality(cohort: Cohort, modality: str) -> Cohort:
    """Returns the patients who have a modality; a DataError if nobody has, a DataWarning if some have not."""
    from multimodn.errors import DataError, DataWarning, shown

    if modality not in cohort.modalities:  # no source of it was given, or there is no such modality
        return cohort
    has = cohort.patients.isin(cohort.modalities[modality].index)
    lacking = shown(list(cohort.patients[~has]))
    if not has.any():
        raise DataError(f"Nothing to draw: {lacking} has no modality '{modality}'.")
    if not has.all():
        warnings.warn(f"Left out, without modality '{modality}': {lacking}.", DataWarning, stacklevel=2)
    return cohort.subset(has)


def _by_source(model: MultiModN, new: Sequence[str], named: dict[str, Path], *, labelled: bool) -> dict[str, Path]:
    """Adds to ``named`` each of the ``new`` files under the source that it is."""
    paths = list[Path]()
    for text in new:
        name, _, rest = text.partition("=")
        if not rest or (name not in model.study.cohort.sources and Path(text).exists()):
            paths.append(Path(text))
            continue
        _add(named, name, Path(rest))
    _check_exist(paths)
    for path, names in _named_alike(model.study, paths).items():
        for name in names:
            _add(named, name, path)
    for path in paths:
        if path not in named.values():
            _add(named, _source_of(model, path, named, labelled=labelled), path)
    return named


def _add(named: dict[str, Path], name: str, path: Path) -> None:
    from multimodn.errors import StudyError

    if name in named:
        text = f"Both {named[name]} and {path} are source '{name}' of the study; join them into one file"
        raise StudyError(f"{text}, or say which sources they are: NAME=PATH.")
    named[name] = path


def _check_exist(paths: Sequence[Path]) -> None:
    from multimodn.errors import DataError, did_you_mean_file, raise_all

    absent = [f"{path} does not exist.{did_you_mean_file(path)}" for path in paths if not path.exists()]
    raise_all(absent, DataError, "New patients")


def _named_alike(study: Study, paths: Sequence[Path]) -> dict[Path, set[str]]:
    """Returns the sources of paths that have the name of a source, or of its file, whatever the suffix and case.

    A file that several sources read is all of these.
    """
    names = dict[str, set[str]]()
    for name, spec in study.cohort.sources.items():
        own = {name.lower()} | ({_stem(spec.path)} if spec.path else set())
        if spec.files is not None and (folder := _fixed_part(spec).name):
            own.add(folder.lower())
        for text in own:
            names.setdefault(text, set()).add(name)
    found = {path: names.get(_stem(path), set()) for path in paths}
    origins = {path: {study.cohort.sources[name].path for name in alike} for path, alike in found.items()}
    return {path: alike for path, alike in found.items() if len(origins[path]) == 1}


def _stem(path: str | Path) -> str:
    return Path(path).absolute().name.lower().partition(".")[0]


def _fixed_part(spec: SourceSpec) -> Path:
    """Returns the folder before the first wildcard of a pattern of files."""
    parts = Path(str(spec.files)).parts
    n_fixed = next((k for k, part in enumerate(parts) if glob.has_magic(part) or "{" in part), len(parts) - 1)
    return Path(*parts[:n_fixed])


def _source_of(model: MultiModN, path: Path, taken: Collection[str], *, labelled: bool) -> str:
    """Returns the only free source all of whose columns that the model reads stand in a table."""
    from multimodn.errors import DataWarning, StudyError

    study = model.study
    patterns = [name for name, spec in study.cohort.sources.items() if spec.files is not None]
    if path.is_dir():
        free = [name for name in patterns if name not in taken]
        if len(free) == 1:
            return free[0]
        raise StudyError(f"{path} is a folder. Name the files in it, {path}/*, or say which source it is: NAME={path}.")
    inputs, targets = _columns_by_source(model)
    wanted = {name: columns for name, columns in (inputs | targets).items() if name not in patterns}
    lacking = _lacking(study, path, wanted)
    fitting = [name for name in wanted if not lacking[name] and name not in taken]
    if not labelled and len(fitting) > 1:  # a table of inputs may hold targets too
        fitting = [name for name in fitting if name in inputs] or fitting
    if len(fitting) > 1:
        raise StudyError(f"{path} has the columns of several sources, {', '.join(fitting)}: say which, NAME={path}.")
    if not fitting:
        text = f"{path} has the columns of no source of the study ({', '.join(inputs)})"
        raise StudyError(f"{text}. {_nearest(wanted, lacking, taken)}Say which it is: NAME={path}.")
    if len(wanted) > 1:
        text = f"{path} is read as source '{fitting[0]}', whose columns it has."
        warnings.warn(text, DataWarning, stacklevel=3)
    return fitting[0]


def _nearest(wanted: Mapping[str, set[str]], lacking: Mapping[str, set[str]], taken: Collection[str]) -> str:
    """Names the sources whose columns a table has in part, and what it lacks of them."""
    from multimodn.errors import shown

    texts = {
        name: "of which another file is given"
        if name in taken
        else f"which needs {shown(sorted(lacking[name]), 4)} too"
        for name in wanted
        if len(lacking[name]) < len(wanted[name])
    }
    alike = sorted(texts, key=lambda name: len(lacking[name]) / len(wanted[name]))[:2]
    return f"The nearest: {'; '.join(f'{name!r}, {texts[name]}' for name in alike)}. " if alike else ""


def _lacking(study: Study, path: Path, wanted: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Returns for each source which of its columns a table lacks; it is read as the source says."""
    from multimodn.data.sources import read_source
    from multimodn.errors import DataError

    read, first = dict[str, set[str] | None](), None
    lacking = {}
    for name, columns in wanted.items():
        spec = study.cohort.sources[name].elsewhere(path)
        key = spec.model_dump_json()
        if key not in read:
            try:
                read[key] = set(map(str, read_source(spec, Path(), study.cohort.patient).columns))
            except DataError as error:  # perhaps another source's options fit
                read[key], first = None, first or error
        found = read[key]
        lacking[name] = set(columns) if found is None else columns - found
    if first is not None and all(columns is None for columns in read.values()):
        raise first
    return lacking


def _columns_by_source(model: MultiModN) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Returns the columns that the model reads from each source, and those of sources of targets alone."""
    from multimodn.base.encoder import Encoder

    inputs, targets = dict[str, set[str]](), dict[str, set[str]]()
    encoders = model.trained.ensemble.first.encoders
    for step, spec in model.study.steps.items():
        columns = inputs.setdefault(spec.source, set())
        columns |= {str(name) for name in cast(Encoder, encoders[step]).columns}
        columns |= {spec.repeats.by} if spec.repeats else set()
    for task in model.study.tasks:
        if task.source not in inputs:
            targets.setdefault(task.source, set()).update(task.target_columns)
    return inputs, targets


def _without_targets(study: Study, named: dict[str, Path]) -> dict[str, Path]:
    """Leaves out files of targets alone, and says so."""
    from multimodn.errors import DataWarning, StudyError

    inputs = {modality.source for modality in study.modalities}
    kept = {name: path for name, path in named.items() if name in inputs or name not in study.cohort.sources}
    left_out = [str(path) for name, path in named.items() if name not in kept]
    if not kept:
        raise StudyError(f"{', '.join(left_out)}: targets alone, of which nothing is predicted. Give files of inputs.")
    if left_out:
        warnings.warn(f"Not read, because only targets are in it: {', '.join(left_out)}.", DataWarning, stacklevel=3)
    return kept


def _as_source(study: Study, name: str, path: Path) -> SourceSpec | Path:
    """Returns a folder in place of that of a source of files, with the same names in it; any other path as it is."""
    from multimodn.study.study import SourceSpec

    spec = study.cohort.sources.get(name)
    if spec is None or spec.files is None or not path.is_dir():
        return path
    rest = Path(spec.files).relative_to(_fixed_part(spec))
    return SourceSpec(files=(Path(glob.escape(str(path.absolute()))) / rest).as_posix(), patient_from=spec.patient_from)
