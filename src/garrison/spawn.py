"""`multiprocessing.spawn` under garrison's name."""

from garrison import _standard
from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.spawn import *

_standard.become(__name__)
