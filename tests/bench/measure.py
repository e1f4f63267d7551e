"""The arithmetic of the bench: contestants in turns, medians with their spread, ratios round by round.

Knows no process and no notebook.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Sample:
    """One measurement.

    Attributes:
        end: Seconds from the start until everything was done.
        first_cell: Seconds from the start until the first cell was executed; None where there is no cell.
        processor: Seconds of processor time of all its processes together; None where that cannot be known.
        stages: Seconds of each stage in between, in order, where the contestant tells them.
    """

    end: float
    first_cell: float | None = None
    processor: float | None = None
    stages: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Contestant:
    """Something that is measured.

    Attributes:
        name: For the table.
        run: Does it once; a failure raises, so that no time of something that did not work is ever shown.
    """

    name: str
    run: Callable[[], Sample]


@dataclass(frozen=True)
class Summary:
    """The median of some values, and the smallest and the largest of them."""

    median: float
    low: float
    high: float


def in_turns(
    contestants: Sequence[Contestant], *, rounds: int, warm_up: int = 0, told: Callable[[str], None] = lambda line: None
) -> dict[str, list[Sample]]:
    """Measure everyone once a round, so that what disturbs the machine for a while disturbs all of them.

    Args:
        contestants: Their names are different.
        rounds: How often each is measured.
        warm_up: Rounds before that do not count: they fill the disk's cache and compile modules.
        told: Takes a line a measurement.

    Returns:
        The samples by name, in the order of the rounds.
    """
    samples: dict[str, list[Sample]] = {contestant.name: [] for contestant in contestants}
    for number in range(-warm_up, rounds):
        # Who comes after whom changes too: one leaves the caches warm for the next.
        shift = number % len(contestants)
        for contestant in [*contestants[shift:], *contestants[:shift]]:
            sample = contestant.run()
            label = f"round {number + 1} of {rounds}" if number >= 0 else "warm-up"
            told(f"{label}: {contestant.name} {sample.end:.2f} s")
            if number >= 0:
                samples[contestant.name].append(sample)
    return samples


def summary(values: Iterable[float]) -> Summary:
    """The median and the extremes.

    Raises:
        ValueError: there are no values.
    """
    known = list(values)
    if not known:
        raise ValueError("there is nothing to summarise")
    return Summary(statistics.median(known), min(known), max(known))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Summary:
    """How many times as long as theirs ours took: below 1 we are faster.

    Of the ratios in each round, not of the medians: the two of one round met the same disturbances.

    Raises:
        ValueError: they were not measured in the same rounds.
    """
    return summary(own / other for own, other in zip(ours, theirs, strict=True))


def differences(ours: Sequence[float], theirs: Sequence[float]) -> Summary:
    """How many seconds more than theirs ours took, round by round.

    Raises:
        ValueError: they were not measured in the same rounds.
    """
    return summary(own - other for own, other in zip(ours, theirs, strict=True))


def ends(samples: Mapping[str, Sequence[Sample]], name: str) -> list[float]:
    """Seconds until the end, of each round."""
    return [sample.end for sample in samples[name]]


def first_cells(samples: Mapping[str, Sequence[Sample]], name: str) -> list[float]:
    """Seconds until the first cell, of each round that has one."""
    return [sample.first_cell for sample in samples[name] if sample.first_cell is not None]


def processors(samples: Mapping[str, Sequence[Sample]], name: str) -> list[float]:
    """Seconds of processor time, of each round where they are known."""
    return [sample.processor for sample in samples[name] if sample.processor is not None]


def stages(moments: Sequence[tuple[str, float]]) -> dict[str, float]:
    """How long each stage took.

    Args:
        moments: What ended when, in seconds on one clock; the first is the start, and its name is not used.
    """
    return {name: moment - moments[at][1] for at, (name, moment) in enumerate(moments[1:])}
