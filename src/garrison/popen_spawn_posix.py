"""`multiprocessing.popen_spawn_posix` under garrison's name."""

from typing import TYPE_CHECKING

from garrison import _standard

if TYPE_CHECKING:
    from multiprocessing.popen_spawn_posix import *

_standard.become(__name__)
