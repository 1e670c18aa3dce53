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
from tasks.activations.models.hookpoints import HookSite, resolve_hookpoint
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
    sites = [resolve_hookpoint(language_model.model, name) for name in dict.fromkeys(hookpoints)]
    batch, context = inputs["input_ids"].shape
    captured: dict[str, Tensor] = {}

    def take(site: HookSite, value: Tensor) -> None:
        if site.hookpoint in captured:
            raise UserError(f"hookpoint {site.hookpoint!r} runs more than once in a forward pass")
        _check_shape(site, value, batch, context)
        if len(captured) == len(sites) - 1:  # nothing runs after the last value: no copy
            captured[site.hookpoint] = value.detach()
            raise _AllCaptured
        captured[site.hookpoint] = value.detach().clone()  # later layers may work in place

    with torch.no_grad(), ExitStack() as hooks:
        for site in sites:
            hooks.callback(_register_reader(language_model.model, site, take).remove)
        try:
            language_model.model(**inputs)
        except _AllCaptured:
            pass
        else:
            missing = next(site for site in sites if site.hookpoint not in captured)
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
    site = resolve_hookpoint(language_model.model, hookpoint)
    if not site.replaceable:
        raise UserError(
            f"hookpoint {hookpoint!r} can be read but not replaced: the residual branch takes the value "
            "from elsewhere; use resid_pre, resid_post, attn_out or mlp_out"
        )
    handle = _register_writer(language_model.model, site, replace)
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

    def take(site: HookSite, value: Tensor) -> None:
        values[site.hookpoint] = value

    with ExitStack() as hooks:
        for name in dict.fromkeys(hookpoints):
            site = resolve_hookpoint(language_model.model, name)
            hooks.callback(_register_reader(language_model.model, site, take).remove)
        yield values


def hookpoint_width(language_model: LanguageModel, hookpoint: str) -> int:
    """The width D of a hookpoint; a two-token forward pass measures it if the table does not have it."""
    site = resolve_hookpoint(language_model.model, hookpoint)
    if site.width is not None:
        return site.width
    token_ids = torch.zeros((1, 2), dtype=torch.long, device=language_model.device)
    return int(capture(language_model, [hookpoint], {"input_ids": token_ids})[hookpoint].shape[2])


def _register_reader(model: Any, site: HookSite, take: Callable[[HookSite, Tensor], None]) -> RemovableHandle:
    module: nn.Module = model.get_submodule(site.module)
    if site.side == "input":

        def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            take(site, _input_of(site, args, kwargs)[0])

        return module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_module: nn.Module, _args: Any, output: Any) -> None:
        take(site, _first_tensor(site, output))

    return module.register_forward_hook(after)


def _register_writer(model: Any, site: HookSite, replace: Replace) -> RemovableHandle:
    module: nn.Module = model.get_submodule(site.module)
    if site.side == "input":

        def before(
            _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            value, keyword = _input_of(site, args, kwargs)
            replaced = _replaced(site, value, replace)
            if keyword is None:
                return (replaced, *args[1:]), kwargs
            return args, {**kwargs, keyword: replaced}

        return module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_module: nn.Module, _args: Any, output: Any) -> Any:
        replaced = _replaced(site, _first_tensor(site, output), replace)
        return (replaced, *output[1:]) if isinstance(output, tuple) else replaced

    return module.register_forward_hook(after)


def _input_of(site: HookSite, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, str | None]:
    """The module's first input and its name if it was passed by keyword."""
    if args and isinstance(args[0], Tensor):
        return args[0], None
    for name in ("hidden_states", "input", "x"):
        if isinstance(kwargs.get(name), Tensor):
            return kwargs[name], name
    raise UserError(f"hookpoint {site.hookpoint!r}: module {site.module!r} has no tensor as first input")


def _first_tensor(site: HookSite, output: Any) -> Tensor:
    value = output[0] if isinstance(output, tuple) else output
    if not isinstance(value, Tensor):
        raise UserError(f"hookpoint {site.hookpoint!r}: module {site.module!r} returns no tensor")
    return value


def _check_shape(site: HookSite, value: Tensor, batch: int, context: int) -> None:
    fits = value.ndim == 3 and tuple(value.shape[:2]) == (batch, context)
    if not fits or (site.width is not None and value.shape[2] != site.width):
        width = "D" if site.width is None else site.width
        raise UserError(
            f"hookpoint {site.hookpoint!r} has the shape {tuple(value.shape)}, "
            f"not ({batch}, {context}, {width})"
        )


def _replaced(site: HookSite, value: Tensor, replace: Replace) -> Tensor:
    replaced = replace(value)
    if replaced.shape != value.shape:
        raise UserError(
            f"hookpoint {site.hookpoint!r}: the replacement has the shape {tuple(replaced.shape)}, "
            f"not {tuple(value.shape)}"
        )
    return replaced.to(value)
