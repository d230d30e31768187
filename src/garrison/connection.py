"""`multiprocessing.connection` under garrison's name."""

from garrison import _standard
from garrison._typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import *

_standard.become(__name__)
