"""A plugin of pytest for joblib's own tests: where they ask for loky, they get garrison."""

from __future__ import annotations

import joblib.parallel

import garrison.joblib

joblib.parallel.BACKENDS["loky"] = garrison.joblib.GarrisonBackend
# Under its own name it would be asked for in workers of other backends, which have not imported it.
del joblib.parallel.BACKENDS["garrison"]
