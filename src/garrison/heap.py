"""`multiprocessing.heap` under garrison's name."""

from garrison import _standard
from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.heap import *

_standard.become(__name__)
