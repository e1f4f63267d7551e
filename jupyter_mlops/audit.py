"""Who did what, when, from where: makes the entries of the audit log, without secrets.

The entry of a change goes into the transaction of the change (`entry` here, `append` in the store): there is neither a
change without its entry nor an entry without its change, and a store that does not answer refuses both. What changes
nothing in the store, such as a cancelled run, is recorded with `record`.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .config import MLOps
from .identity import current_user
from .redact import Redactor

if TYPE_CHECKING:
    from .store.audit import AuditEntry, AuditStore
    from .store.database import Store

_LONGEST_TEXT = 2000


@dataclass(frozen=True)
class Auditor:
    """Makes entries for whoever runs this process.

    Attributes:
        config: The settings; their `secret_pattern` says what is masked.
        front: Where commands are given: "terminal", "notebook", "scheduler", "python".
    """

    config: MLOps
    front: str = "python"

    def entry(self, action: str, object_: str, **details: Any) -> AuditEntry:
        """An entry about something done now.

        Args:
            action: What, like "run.submit".
            object_: To what, like "run 5f0c…".
            **details: What else is worth knowing, as JSON can hold it; long text is cut.
        """
        from .store.audit import AuditEntry

        redactor = Redactor.from_environment(self.config.secret_pattern)
        return AuditEntry(
            who=current_user(),
            host=socket.gethostname(),
            process=os.getpid(),
            front=self.front,
            action=action,
            object=redactor.text(object_),
            details=redactor.data({key: _short(value) for key, value in details.items()}),
        )

    def record(self, store: Store, action: str, object_: str, **details: Any) -> None:
        """Add an entry that no change in the store carries.

        Raises:
            StoreError: it cannot be added.
        """
        self.log(store).add(self.entry(action, object_, **details))

    @staticmethod
    def log(store: Store) -> AuditStore:
        """The log of a store, to read."""
        from .store.audit import AuditStore

        return AuditStore(store)


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return value[:_LONGEST_TEXT] + "…"
    return value
