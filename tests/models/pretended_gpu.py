"""A GPU that is not there: torch's tensors say that they are on ``cuda``, and lie in main memory.

What goes wrong on a GPU and not on a CPU is mostly a tensor that was left behind. That is found here as it
would be there; how fast anything is, is not.

``pretended()`` is the GPU. ``GpuTensor`` holds a CPU tensor, and every operation on it is done on that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
import torch._dynamo  # looks at what is patched below when it is imported
from torch.nn import functional
from torch.utils import _pytree as pytree
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode

_CUDA = torch.device("cuda", 0)
_counting: Counter[str] | None = None


class GpuTensor(torch.Tensor):
    """Says that it is on ``cuda:0``; ``held`` holds its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> GpuTensor:
        """Of a CPU tensor, which it shares."""
        made: Any = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=_CUDA,
        )
        made.held = held
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    @property
    def data(self) -> Any:
        """The same values."""
        return self.detach()

    @data.setter
    def data(self, values: GpuTensor) -> None:
        torch.Tensor.data.__set__(self, values)  # type: ignore[attr-defined]
        self.held = values.held

    def tolist(self) -> Any:
        """The values, as of any tensor."""
        return self.held.tolist()

    def __getitem__(self, index: Any) -> Any:
        """As of any tensor; torch would bring lists of places to the GPU by itself."""
        parts = index if isinstance(index, tuple) else (index,)
        placed = tuple(torch.tensor(part, device=_CUDA) if isinstance(part, list) else part for part in parts)
        return super().__getitem__(placed)

    def numpy(self, **_: Any) -> Any:
        """Refuses, as torch does."""
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def __array__(self, *_: Any) -> Any:
        return self.numpy()

    def __repr__(self, **_: Any) -> str:
        return f"GpuTensor({self.held!r})"


class _Dispatch(TorchDispatchMode):
    """See every operation, also ones that make a tensor on ``cuda`` from none or from one on the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with self:
            parts = func.decompose(*args, **(kwargs or {}))
        return _run(func, args, kwargs or {}) if parts is NotImplemented else parts


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation, on the CPU tensors inside, its result on the device where it belongs."""
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    device = kwargs.get("device")
    on_gpu = [isinstance(tensor, GpuTensor) for tensor in tensors]
    copies = func._schema.name in ("aten::copy_", "aten::_to_copy")
    if any(on_gpu) and not copies:
        _check_together(func, tensors)
    goes_to_gpu = device is not None and torch.device(device).type == "cuda"
    stays_on_gpu = device is None and (on_gpu[0] if copies else any(on_gpu))
    kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"}
    if goes_to_gpu:
        kwargs["device"] = torch.device("cpu")
    if (goes_to_gpu or any(on_gpu)) and not _only_looks(func):
        _count(func._schema.name)
    known = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, GpuTensor)}
    cpu_args, cpu_kwargs = pytree.tree_map(
        lambda leaf: leaf.held if isinstance(leaf, GpuTensor) else leaf, (args, kwargs)
    )
    results = func(*cpu_args, **cpu_kwargs)
    if not goes_to_gpu and not stays_on_gpu:
        return results

    def placed(result: Any) -> Any:
        if type(result) is not torch.Tensor:
            return result
        if id(result) in known:  # an operation in place
            return known[id(result)]
        return GpuTensor(result.clone() if any(result is tensor for tensor in tensors) else result)

    return pytree.tree_map(placed, results)


def _only_looks(func: Any) -> bool:
    """Whether an operation gives a view or empty memory: a GPU has nothing to do."""
    return func.is_view or "empty" in func._schema.name or func._schema.name == "aten::_unsafe_view"


def _count(operation: str) -> None:
    if _counting is not None:
        _counting[operation] += 1


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Counts what the GPU is asked for meanwhile, by name."""
    global _counting  # noqa: PLW0603 - there is one GPU
    _counting = counts = Counter()
    try:
        yield counts
    finally:
        _counting = None


def _check_together(func: Any, tensors: list[torch.Tensor]) -> None:
    """CUDA takes a number that lies on the CPU, and places to index, and nothing else from there."""
    left = [tensor for tensor in tensors if not isinstance(tensor, GpuTensor)]
    indexes = func._schema.name in ("aten::index", "aten::index_put_") and left == tensors[-len(left) :]
    if any(tensor.ndim for tensor in left) and not indexes:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in left)
        raise RuntimeError(f"{func}: expected all tensors to be on the same device; on the CPU: {shapes}")


def _enter_without_gradients(mode: Any) -> None:
    """In place of inference mode, in which a tensor of another class cannot be a view."""
    mode.before = torch.is_grad_enabled()
    torch.set_grad_enabled(not mode.mode and mode.before)


def _leave(mode: Any, *_: object) -> None:
    torch.set_grad_enabled(mode.before)


@contextmanager
def pretended() -> Iterator[None]:
    """Inside, ``device="cuda"`` works, in this thread."""
    make_tensor: Callable[..., torch.Tensor] = torch.tensor

    def tensor(values: Any, *, device: Any = None, **kwargs: Any) -> torch.Tensor:
        numbers = pytree.tree_map(lambda leaf: leaf.item() if isinstance(leaf, GpuTensor) else leaf, values)
        made = make_tensor(numbers, **kwargs)
        return made if device is None else made.to(device)

    attention = functional.scaled_dot_product_attention

    def attend(*args: Any, **kwargs: Any) -> torch.Tensor:
        """One operation on a GPU; here torch does it in many."""
        global _counting  # noqa: PLW0603 - there is one GPU
        before, _counting = _counting, None
        seen = attention(*args, **kwargs)
        _counting = before
        _count("scaled_dot_product_attention")
        return seen

    stand_ins = {
        "torch.nn.functional.scaled_dot_product_attention": attend,
        "torch.cuda.is_available": lambda: True,
        "torch.cuda.device_count": lambda: 1,
        "torch.cuda._lazy_init": lambda: None,
        "torch.cuda.synchronize": lambda *_: None,
        "torch.tensor": tensor,
        "torch._has_compatible_shallow_copy_type": lambda one, other: type(one) is type(other),
        "torch.inference_mode.__enter__": _enter_without_gradients,
        "torch.inference_mode.__exit__": _leave,
    }
    _device_constructors()  # keeps what torch.tensor is now, for the whole process
    torch._C._ensureCUDADeviceGuardSet()  # type: ignore[attr-defined]
    with ExitStack() as stack:
        for name, stand_in in stand_ins.items():
            stack.enter_context(mock.patch(name, stand_in))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(_Dispatch())
        yield
