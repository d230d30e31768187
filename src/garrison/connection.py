"""`multiprocessing.connection` under garrison's name."""

from typing import TYPE_CHECKING

from garrison import _standard

if TYPE_CHECKING:
    from multiprocessing.connection import *

_standard.become(__name__)
