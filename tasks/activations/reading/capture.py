"""Read and replace activations with plain forward hooks.

Shapes: B sequences, T context, D width of a hookpoint.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from catalog.errors import UserError
from tasks.activations.models.hookpoints import ResolvedHookpoint, resolve_hookpoint
from tasks.activations.models.language_model import LanguageModel

Replace = Callable[[Tensor], Tensor]


class _AllCaptured(Exception):  # control flow, never seen outside this file
    """All requested values are captured: leave the forward pass."""


def capture(
    language_model: LanguageModel, hookpoints: Sequence[str], inputs: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Run the model up to the last hookpoint needed and return each value ``(B, T, D)``.

    Args:
        language_model: The model; runs without gradients.
        hookpoints: Names that `resolve_hookpoint` accepts.
        inputs: The result of `model_inputs`.

    Returns:
        Values that no later layer overwrites, in the model's number format and on its device, by hookpoint.

    Raises:
        UserError: for an unknown hookpoint, one that ran zero or two times, or a value that does not have
            a ``(B, T, D)`` shape.
    """
    points = [resolve_hookpoint(language_model.model, name) for name in dict.fromkeys(hookpoints)]
    batch, context = inputs["input_ids"].shape
    captured: dict[str, Tensor] = {}

    def take(point: ResolvedHookpoint, value: Tensor) -> None:
        if point.hookpoint in captured:
            raise UserError(f"hookpoint {point.hookpoint!r} runs more than once in a forward pass")
        _check_shape(point, value, batch, context)
        if len(captured) == len(points) - 1:  # nothing runs after the last value: no copy
            captured[point.hookpoint] = value.detach()
            raise _AllCaptured
        captured[point.hookpoint] = value.detach().clone()  # later layers may work in place

    with torch.no_grad(), ExitStack() as hooks:
        for point in points:
            hooks.callback(_register_reader(language_model.model, point, take).remove)
        try:
            language_model.model(**inputs)
        except _AllCaptured:
            pass
        else:
            missing = next(point for point in points if point.hookpoint not in captured)
            raise UserError(
                f"hookpoint {missing.hookpoint!r}: module {missing.module!r} did not run in a forward pass"
            )
    return {name: captured[name] for name in hookpoints}


@contextmanager
def splice(language_model: LanguageModel, hookpoint: str, replace: Replace) -> Iterator[None]:
    """Within the context every forward pass continues with ``replace(value)`` in place of the value.

    ``replace`` takes and returns ``(B, T, D)``; its result is cast to the model's number format.

    Raises:
        UserError: for an unknown hookpoint, or one where replacing would not reach everything downstream.
    """
    point = resolve_hookpoint(language_model.model, hookpoint)
    if not point.replaceable:
        raise UserError(
            f"hookpoint {hookpoint!r} can be read but not replaced: the residual branch takes the value "
            "from elsewhere; use resid_pre, resid_post, attn_out or mlp_out"
        )
    handle = _register_writer(language_model.model, point, replace)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def watch(language_model: LanguageModel, hookpoints: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within the context every forward pass stores its values ``(B, T, D)`` in the yielded dictionary.

    The values carry the graph of the pass, if it has one; the next pass replaces them.

    Raises:
        UserError: for an unknown hookpoint.
    """
    values: dict[str, Tensor] = {}

    def take(point: ResolvedHookpoint, value: Tensor) -> None:
        values[point.hookpoint] = value

    with ExitStack() as hooks:
        for name in dict.fromkeys(hookpoints):
            point = resolve_hookpoint(language_model.model, name)
            hooks.callback(_register_reader(language_model.model, point, take).remove)
        yield values


def hookpoint_width(language_model: LanguageModel, hookpoint: str) -> int:
    """The width D of a hookpoint; a two-token forward pass measures it if the table does not have it."""
    point = resolve_hookpoint(language_model.model, hookpoint)
    if point.width is not None:
        return point.width
    token_ids = torch.zeros((1, 2), dtype=torch.long, device=language_model.device)
    return int(capture(language_model, [hookpoint], {"input_ids": token_ids})[hookpoint].shape[2])


def _register_reader(
    model: Any, point: ResolvedHookpoint, take: Callable[[ResolvedHookpoint, Tensor], None]
) -> RemovableHandle:
    module: nn.Module = model.get_submodule(point.module)
    if point.side == "input":

        def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            take(point, _input_of(point, args, kwargs)[0])

        return module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_module: nn.Module, _args: Any, output: Any) -> None:
        take(point, _first_tensor(point, output))

    return module.register_forward_hook(after)


def _register_writer(model: Any, point: ResolvedHookpoint, replace: Replace) -> RemovableHandle:
    module: nn.Module = model.get_submodule(point.module)
    if point.side == "input":

        def before(
            _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            value, keyword = _input_of(point, args, kwargs)
            replaced = _replaced(point, value, replace)
            if keyword is None:
                return (replaced, *args[1:]), kwargs
            return args, {**kwargs, keyword: replaced}

        return module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        replaced = _replaced(point, _first_tensor(point, output), replace)
        return (replaced, *output[1:]) if isinstance(output, tuple) else replaced

    return module.register_forward_hook(after)


def _input_of(
    point: ResolvedHookpoint, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Tensor, str | None]:
    """The module's first input and its name if it was passed by keyword."""
    if args and isinstance(args[0], Tensor):
        return args[0], None
    for name in ("hidden_states", "input", "x"):
        if isinstance(kwargs.get(name), Tensor):
            return kwargs[name], name
    raise UserError(f"hookpoint {point.hookpoint!r}: module {point.module!r} has no tensor as first input")


def _first_tensor(point: ResolvedHookpoint, output: Any) -> Tensor:
    value = output[0] if isinstance(output, tuple) else output
    if not isinstance(value, Tensor):
        raise UserError(f"hookpoint {point.hookpoint!r}: module {point.module!r} returns no tensor")
    return value


def _check_shape(point: ResolvedHookpoint, value: Tensor, batch: int, context: int) -> None:
    fits = value.ndim == 3 and tuple(value.shape[:2]) == (batch, context)
    if not fits or (point.width is not None and value.shape[2] != point.width):
        width = "D" if point.width is None else point.width
        raise UserError(
            f"hookpoint {point.hookpoint!r} has the shape {tuple(value.shape)}, "
            f"not ({batch}, {context}, {width})"
        )


def _replaced(point: ResolvedHookpoint, value: Tensor, replace: Replace) -> Tensor:
    replaced = replace(value)
    if replaced.shape != value.shape:
        raise UserError(
            f"hookpoint {point.hookpoint!r}: the replacement has the shape {tuple(replaced.shape)}, "
            f"not {tuple(value.shape)}"
        )
    return replaced.to(value)
