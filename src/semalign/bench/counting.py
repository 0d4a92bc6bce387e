"""Operations and bytes of a function, counted and therefore the same on every run.

It does not depend on what the function computes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

__all__ = ["Counts", "count"]


@dataclasses.dataclass(frozen=True)
class Counts:
    """What one call of a function costs.

    Attributes:
        flops: operations of its matrix products; a multiplication and an addition are two.
        bytes_touched: bytes of the tensors that its kernels read and write, each kernel counted by itself, whether they
            are found in a cache or in memory.
        peak_bytes: most bytes allocated at once, over what stood before.
        kernels: calls of kernels.
    """

    flops: int
    bytes_touched: int
    peak_bytes: int
    kernels: int


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the sizes of the tensors that each kernel reads and writes, and follows which storages are alive.

    Views move nothing.  What a kernel allocates and frees within itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes, self.kernels, self.peak = 0, 0, 0
        self._own: dict[int, tuple[StorageWeakRef, int]] = {}
        self._foreign: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._forget_freed()
        given = [t for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)]
        for tensor in given:
            key = tensor.untyped_storage()._cdata
            if key not in self._own and key not in self._foreign:
                self._foreign[key] = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        result = func(*args, **(kwargs or {}))
        made = [t for t in tree_iter(result) if isinstance(t, Tensor)]
        for tensor in made:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._own and storage._cdata not in self._foreign:
                self._own[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())  # type: ignore[no-untyped-call]
        self.peak = max(self.peak, sum(size for _, size in self._own.values()))
        if not func.is_view and "empty" not in func.__name__:
            self.kernels += 1
            # An output given by the caller is among the arguments already.
            self.bytes += sum(_size(tensor) for tensor in {id(t): t for t in (*given, *made)}.values())
        return result

    def _forget_freed(self) -> None:
        # An address may be used again, by another storage.
        for key in [key for key, (alive, _) in self._own.items() if alive.expired()]:  # type: ignore[no-untyped-call]
            del self._own[key]
        for key in [key for key, alive in self._foreign.items() if alive.expired()]:  # type: ignore[no-untyped-call]
            del self._foreign[key]


def _size(tensor: Tensor) -> int:
    """Return the bytes behind a tensor; a repeated one (stride 0) is there once."""
    numbers = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        numbers *= size if stride else 1
    return numbers * tensor.itemsize if tensor.numel() else 0


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)  # type: ignore[no-any-return,no-untyped-call]


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)  # type: ignore[no-any-return,no-untyped-call]


def _linear(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    flops: int = 2 * math.prod(x) * weight[0]
    return flops


# torch counts its CUDA kernels' operations and not those of the same function on a CPU.
_ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}
if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
    _ON_CPU[torch.ops.mkldnn._linear_pointwise] = _linear


def count(function: Callable[[], object]) -> Counts:
    """Call ``function`` three times and count one call.

    What the function returns is held until its end, so that a result counts as memory.
    """
    function()
    operations = FlopCounterMode(display=False, custom_mapping=_ON_CPU)
    with operations:
        function()
    with _Meter() as meter:
        kept = function()
    del kept
    return Counts(operations.get_total_flops(), meter.bytes, meter.peak, meter.kernels)
