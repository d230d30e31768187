"""Classes of the main module travel there and back and stay themselves."""
import abc
import collections
import dataclasses
import enum
import functools
import multiprocessing as mp
import sys
import typing


class Color(enum.Enum):
    RED = 1
    BLUE = "b"


class Flags(enum.IntFlag):
    A = 1
    B = 2


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int = 0
    tags: typing.List[str] = dataclasses.field(default_factory=list)


class Pair(typing.NamedTuple):
    a: int
    b: str = "b"


Old = collections.namedtuple("Old", "p q")


class Base(abc.ABC):
    registry = []

    @abc.abstractmethod
    def area(self): ...

    def __init_subclass__(cls, **kwds):
        super().__init_subclass__(**kwds)
        Base.registry.append(cls.__name__)


class Square(Base):
    __slots__ = ("side",)

    def __init__(self, side):
        self.side = side

    def area(self):
        return self.side**2

    def __eq__(self, other):
        return type(other) is type(self) and other.side == self.side

    __hash__ = None

    @classmethod
    def make(cls, side):
        return cls(side)

    @staticmethod
    def twice(x):
        return x * 2

    class Inner:
        def __repr__(self):
            return "inner"


class Trouble(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code


class Doubler:
    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return x * 2, self.calls


def same(x):
    return x


def is_known(x):
    return type(x).__module__, x is Color.RED, isinstance(x, Base), len(Base.registry)


def trouble(x):
    raise Trouble(x, "text")


@functools.lru_cache(maxsize=None)
def cached(x):
    return [x]


if __name__ == "__main__":
    mp.set_start_method(sys.argv[1])
    things = [Color.RED, Flags.A | Flags.B, Point(1, tags=["t"]), Pair(1), Old(1, 2), Square(3), Square.Inner()]
    with mp.Pool(1) as pool:
        back = pool.map(same, things)
        print(back[:5], back[5] == things[5], back[5].side, back[6])
        print(back[0] is Color.RED, [type(a) is type(b) for a, b in zip(back, things)])
        print(pool.map(is_known, things))
        print(pool.map(Square.make, [2])[0].area(), pool.map(Square.twice, [4]), pool.map(Square(5).__eq__, [1]))
        print(pool.map(functools.partial(Pair, b="c"), [1, 2]), pool.map(Point, [7]))
        print(pool.map(Doubler(), range(3), chunksize=3), pool.map(Color, [1, "b"]))
        try:
            pool.apply(trouble, (7,))
        except Trouble as error:
            print(error.code, error.args, type(error.__cause__).__name__)
        print(pool.map(cached, [1, 1, 2]), pool.map(Color.RED.__class__.__name__.join, ["ab"]))
        print(pool.apply(type, (Point(2),)) is Point, pool.map(typing.cast(typing.Any, str), [Pair(3)]))
