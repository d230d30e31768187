"""Proxies: they represent, in any process, an object of a server."""

from __future__ import annotations

import weakref
from abc import ABCMeta
from multiprocessing import context, util

from garrison import _standard
from garrison._standard import managers
from garrison._typing import TYPE_CHECKING, Any
from garrison.manager.client._client import get_client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from garrison.manager._types import ObjectClient, ObjectRef

__all__ = ["AutoProxy", "BaseProxy", "MakeProxyType", "RebuildProxy", "Token", "adapted"]

Token = managers.Token


class BaseProxy(managers.BaseProxy, metaclass=ABCMeta):
    """Represents an object of a server; methods are called there.

    As in `multiprocessing.managers`. The object lives until its last proxy is gone, also if
    processes send proxies to each other and die.

    Examples
    --------
    >>> from garrison.managers import BaseManager, BaseProxy
    >>> class Adder:
    ...     def add(self, x, y):
    ...         return x + y
    >>> class AdderProxy(BaseProxy):
    ...     _exposed_ = ("add",)
    ...
    ...     def add(self, x, y):
    ...         return self._callmethod("add", (x, y))
    >>> class Manager(BaseManager):
    ...     pass
    >>> Manager.register("Adder", Adder, AdderProxy)
    >>> with Manager() as manager:
    ...     manager.Adder().add(4, 3)
    7
    """

    _exposed_: Any

    def __init__(
        self,
        token: managers.Token,
        serializer: str,
        manager: Any = None,
        authkey: bytes | None = None,
        exposed: Iterable[str] | None = None,  # noqa: ARG002 - the standard signature
        incref: bool = True,
        manager_owned: bool = False,
    ) -> None:
        self._token = token
        self._id = token.id
        self._manager = manager
        self._serializer = serializer
        if authkey is None and manager is not None:
            authkey = manager._authkey
        self._authkey = authkey
        self._owned_by_manager = manager_owned
        self._client = get_client(token.address, authkey, serializer)
        if incref:
            self._client.acquire_ref(self._id)
        self._watch()

    def _connect(self) -> None:
        """Raise unless the server is reachable. All proxies share the process's connection."""
        self._attached_client()

    def _incref(self) -> None:
        """Add a reference to the object."""
        self._attached_client().acquire_ref(self._id)

    def _watch(self) -> None:
        """Release the reference with this proxy; a forked child takes its own."""
        self._held_as = self._client.client_id
        gone = weakref.finalize(self, self._client.release_ref, self._id)
        gone.atexit = False  # the server releases the references of an ended process
        util.register_after_fork(self, BaseProxy._after_fork)

    def _after_fork(self) -> None:
        self._attached_client()

    def _attached_client(self) -> ObjectClient:
        """Return this process's client, which holds a reference to the object."""
        client = self._client
        if client.client_id != self._held_as:
            self._held_as = client.client_id
            client.acquire_ref(self._id)
        return client

    def _callmethod(self, methodname: str, args: Any = (), kwds: Any = {}) -> Any:  # noqa: B006 - the standard signature
        """Call a method of the object and return its result, which may be a proxy.

        Raises
        ------
        RemoteError
            If the object has no such exposed method, or its exception cannot be unpickled here.
        ManagerLost
            If the server is gone; the call may or may not have happened.
        Exception
            The exception of the method, with the traceback from the server as its ``__cause__``.
        """
        result, made, proxytype = self._attached_client().call(self._id, methodname, args, kwds)
        return result if made is None else self._proxy_of(made, proxytype)

    def _proxy_of(self, made: ObjectRef, proxytype: Any) -> Any:
        if self._manager is not None and made.typeid in self._manager._registry:
            proxytype = self._manager._registry[made.typeid][-1]
        token = managers.Token(made.typeid, self._token.address, made.ident)
        return adapted(proxytype or AutoProxy)(
            token,
            self._serializer,
            manager=self._manager,
            authkey=self._authkey,
            exposed=made.exposed,
            incref=False,
        )

    def _getvalue(self) -> Any:
        """Return a copy of the object itself."""
        return self._callmethod("#GETVALUE")

    def __reduce__(self) -> tuple[Any, ...]:
        kwds: dict[str, Any] = {"sender": self._attached_client().begin_transfer(self._id)}
        if context.get_spawning_popen() is not None:
            kwds["authkey"] = self._authkey
        maker: Any = vars(type(self)).get("_standard", type(self))
        if getattr(self, "_isauto", False):
            kwds["exposed"] = self._exposed_
            maker = AutoProxy
        return RebuildProxy, (maker, self._token, self._serializer, kwds)

    def __deepcopy__(self, memo: Any) -> Any:
        return self._getvalue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object, typeid {self._token.typeid!r} at {id(self):#x}>"

    def __str__(self) -> str:
        """Return the representation of the object, or of the proxy if that fails."""
        try:
            return str(self._callmethod("__repr__"))
        except Exception:
            return f"{repr(self)[:-1]}; '__str__()' failed>"


_standard.hide(BaseProxy, "the process has one connection to a server", ("_mutex",))


def RebuildProxy(  # noqa: N802 - the standard name
    func: Callable[..., Any], token: managers.Token, serializer: str, kwds: dict[str, Any]
) -> Any:
    """Rebuild a pickled proxy."""
    sender = kwds.pop("sender", None)
    client = get_client(token.address, kwds.get("authkey"), serializer)
    if sender is None:
        client.acquire_ref(token.id)
    else:
        client.confirm_transfer(token.id, sender)
    return adapted(func)(token, serializer, incref=False, **kwds)


_adapted: dict[Any, Any] = {managers.BaseProxy: BaseProxy}


def adapted(proxytype: Any) -> Any:
    """Return garrison's proxy type for a proxy type of the standard library."""
    if proxytype is managers.AutoProxy:
        return AutoProxy
    if not isinstance(proxytype, type) or not issubclass(proxytype, managers.BaseProxy):
        return proxytype
    if issubclass(proxytype, BaseProxy):
        return proxytype
    if proxytype not in _adapted:
        own = {"__module__": proxytype.__module__, "_standard": proxytype}
        _adapted[proxytype] = ABCMeta(proxytype.__name__, (proxytype, BaseProxy), own)
    return _adapted[proxytype]


def MakeProxyType(  # noqa: N802 - the standard name
    name: str,
    exposed: Iterable[str],
    _cache: dict[Any, Any] = {},  # noqa: B006 - the standard signature
) -> Any:
    """Return a proxy type with these methods."""
    names = tuple(exposed)
    if (name, names) not in _cache:
        methods: dict[str, Any] = {method: _forwarding(method) for method in names}
        _cache[name, names] = ABCMeta(name, (BaseProxy,), {**methods, "_exposed_": names})
    return _cache[name, names]


def _forwarding(method: str) -> Callable[..., Any]:
    def forward(self: BaseProxy, /, *args: Any, **kwds: Any) -> Any:
        return self._callmethod(method, args, kwds)

    forward.__name__ = forward.__qualname__ = method
    return forward


def AutoProxy(  # noqa: N802 - the standard name
    token: managers.Token,
    serializer: str,
    manager: Any = None,
    authkey: bytes | None = None,
    exposed: Iterable[str] | None = None,
    incref: bool = True,
    manager_owned: bool = False,
) -> Any:
    """Return a proxy with the exposed methods of the object."""
    if exposed is None:
        exposed = get_client(token.address, authkey, serializer).methods(token.id)
    made = MakeProxyType(f"AutoProxy[{token.typeid}]", exposed)
    proxy = made(
        token,
        serializer,
        manager=manager,
        authkey=authkey,
        incref=incref,
        manager_owned=manager_owned,
    )
    proxy._isauto = True
    return proxy
