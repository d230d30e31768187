"""`multiprocessing.process` under garrison's name."""

from typing import TYPE_CHECKING

from garrison import _standard

if TYPE_CHECKING:
    from multiprocessing.process import *

_standard.become(__name__)
