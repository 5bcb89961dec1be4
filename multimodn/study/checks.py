"""Checks between the parts of a study: unique names, existing sources, registries that fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from multimodn.errors import did_you_mean
from multimodn.study.sources import CohortSpec, RegistrySpec, SourceSpec, check_name
from multimodn.study.specs import ModalitySpec, TaskSpec
from multimodn.study.yaml_file import Problem


def repeated_names(parts: Sequence[Any]) -> list[Problem]:
    """Finds modalities or tasks, as objects or mappings, with the name of another one."""
    names = [_key_of(part, "name") for part in parts]
    return [
        ((i, "name"), f"'{name}' is used twice; names must be unique.")
        for i, name in enumerate(names)
        if name is not None and name in names[:i]
    ]


def unknown_sources(parts: Sequence[Any], cohort: CohortSpec | None) -> list[Problem]:
    """Finds modalities or tasks whose source the cohort does not have."""
    if cohort is None:
        return []
    named = [(i, _key_of(part, "source")) for i, part in enumerate(parts)]
    return [
        ((i, "source"), f"unknown source '{source}'.{did_you_mean(source, cohort.sources)}")
        for i, source in named
        if source is not None and source not in cohort.sources
    ]


def registry_sources(cohort: CohortSpec, registry: RegistrySpec) -> dict[str, SourceSpec]:
    """Returns the sources of a registry: its own, else the cohort's."""
    given = {name: registry.sources.get(name, source) for name, source in cohort.sources.items()}
    return {name: source for name, source in given.items() if source is not None}


def registry_problems(
    registries: Mapping[str, RegistrySpec], cohort: CohortSpec,
    modalities: Sequence[ModalitySpec], tasks: Sequence[TaskSpec],
) -> list[Problem]:  # fmt: skip
    """Finds problems of a study's registries that show without their data."""
    if len(registries) < 2:
        return [((), "a single registry is the study's `cohort`; `cohorts` needs two or more.")]
    problems = [problem for name, spec in registries.items() for problem in _own(name, spec, cohort, modalities, tasks)]
    if problems:
        return problems
    has = {name: registry_sources(cohort, spec) for name, spec in registries.items()}
    read = {source for sources in has.values() for source in sources}
    for what, parts in (("modality", modalities), ("task", tasks)):
        lacking = [part for part in parts if part.source not in read]
        problems += [((), f"no registry has source '{part.source}' of {what} '{part.name}'.") for part in lacking]
    problems += [
        ((), f"task '{task.name}' is in the `tasks` of no registry.")
        for task in tasks
        if all(spec.tasks is not None and task.name not in spec.tasks for spec in registries.values())
    ]
    return problems + list(_read_twice(has))


def _own(
    name: str, spec: RegistrySpec, cohort: CohortSpec, modalities: Sequence[ModalitySpec], tasks: Sequence[TaskSpec]
) -> Iterator[Problem]:
    try:
        check_name(name)
    except ValueError as error:
        yield (name,), str(error)
    for source in spec.sources:
        if source not in cohort.sources:
            yield (name, "sources", source), f"unknown source '{source}'.{did_you_mean(source, cohort.sources)}"
    has, by_name = registry_sources(cohort, spec), {task.name: task for task in tasks}
    for task in by_name if spec.tasks is None else spec.tasks:
        if task not in by_name:
            yield (name, "tasks"), f"unknown task '{task}'.{did_you_mean(task, by_name)}"
        elif spec.tasks is not None and by_name[task].source not in has:
            yield (name, "tasks"), f"task '{task}' is read from source '{by_name[task].source}', which is null here."
    if spec.tasks == [] or not any(task.source in has for task in tasks):
        yield (name,), "it has labels for no task, so that nothing can be learned from it."
    if not any(modality.source in has for modality in modalities):
        yield (name,), "it has the source of no modality."


def _read_twice(has: Mapping[str, Mapping[str, SourceSpec]]) -> Iterator[Problem]:
    """Refuses a file that two registries read: its patients could be both in training and in test."""
    names = list(has)
    for k, other in enumerate(names):
        for one in names[:k]:
            shared = next((s for s, spec in has[other].items() if spec in has[one].values()), None)
            if shared is not None:
                text = f"'{one}' and '{other}' read the same for source '{shared}': its patients would be in the data"
                repair = "Give each registry its own file, a query for its rows, or null."
                yield (other, "sources"), f"{text} twice. {repair}"


def _key_of(part: Any, key: str) -> str | None:
    value = part.get(key) if isinstance(part, Mapping) else getattr(part, key, None)
    return value if isinstance(value, str) else None
