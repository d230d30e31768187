"""The table of operations agrees with the contract of backends and with the core."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from garrison import _core
from garrison.manager._store_operations import ERRORS, OPERATIONS
from garrison.store._backend import RemoteStoreBackend

OF_THE_SERVER = {"acquire_ref", "release_ref", "remove_name", "statistics", "collect_cycles"}
"""Operations that containers do not use; they are no part of the contract."""


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - OF_THE_SERVER))
def test_arguments_and_defaults_are_those_of_the_contract(name: str) -> None:
    operation = OPERATIONS[name]
    _self, *parameters = inspect.signature(getattr(RemoteStoreBackend, name)).parameters.values()
    arguments = parameters if operation.no_container else parameters[1:]
    assert len(arguments) == len(operation.args)
    defaults = tuple(each.default for each in arguments if each.default is not each.empty)
    assert defaults == operation.defaults


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_the_core_has_each_operation(name: str) -> None:
    method: Any = getattr(_core.Store, name)
    _self, *parameters = inspect.signature(method).parameters
    first = 0 if OPERATIONS[name].no_container else 1
    assert len(parameters) - first >= len(OPERATIONS[name].args)


def test_errors_are_sent_as_the_most_special_kind() -> None:
    kinds = list(ERRORS.values())
    for place, kind in enumerate(kinds):
        assert not any(issubclass(kind, earlier) for earlier in kinds[:place])
