"""What a check gives, and how it is called. Knows no check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ..errors import MLOpsError
from ..tracking.address import scrub

_LONGEST = 300


class State(str, Enum):
    """How something stands."""

    OK = "ok"
    PROBLEM = "problem"
    UNKNOWN = "not known"


@dataclass(frozen=True)
class Check:
    """One line of the doctor.

    Attributes:
        name: What was looked at.
        state: How it stands.
        message: One sentence for the person, without secrets.
        remedy: The next step; empty when there is none.
    """

    name: str
    state: State
    message: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """The check as JSON carries it."""
        return {"name": self.name, "state": self.state.value, "message": self.message, "remedy": self.remedy}


def settle(name: str, look: Callable[[], Check]) -> Check:
    """What a check finds; an error that it raises is what it finds.

    Args:
        name: What the check is called when it cannot say so itself.
        look: The check.
    """
    try:
        return look()
    except MLOpsError as error:
        return Check(name, State.PROBLEM, error.message, error.hint)
    except Exception as error:  # noqa: BLE001 - the next check must have its turn
        said = " ".join(scrub(str(error)).split())[:_LONGEST]
        return Check(
            name, State.UNKNOWN, f"The check itself failed: {type(error).__name__}: {said}", "Please report it."
        )
