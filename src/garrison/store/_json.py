"""`json` writes a shared container as the plain one.

Programs write the results in a manager's dict to a file; nested containers there are shared as
well, and no `dict` or `list`. Encoders ask `JSONEncoder.default` for each object of another type.
"""

from __future__ import annotations

import json

from garrison._typing import Any
from garrison.store.containers._base import Container

_default: Any = json.JSONEncoder.default


def _with_containers(encoder: json.JSONEncoder, value: Any) -> Any:
    return value._getvalue() if isinstance(value, Container) else _default(encoder, value)


_encoder: Any = json.JSONEncoder
_encoder.default = _with_containers
