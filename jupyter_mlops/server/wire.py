"""JSON as every browser reads it.

Python writes NaN and Infinity, which JSON does not have; here they are the strings that the JSON mapping of protocol
buffers uses for them (https://protobuf.dev/programming-guides/json/).
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from enum import Enum
from typing import Any

from pydantic import BaseModel


def to_json(value: Any) -> str:
    """A value as JSON text.

    Args:
        value: Plain data, models, moments and enumerations among it.
    """
    return json.dumps(plain(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def plain(value: Any) -> Any:  # noqa: PLR0911 - a table of cases
    """The value with nothing in it that JSON lacks; texts with half of a surrogate pair are repaired."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="python"))
    if isinstance(value, dict):
        return {_key(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, str):
        return _text(value)
    return value


def _key(key: object) -> str:
    return _text(key if isinstance(key, str) else str(key))


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode("utf-8")
