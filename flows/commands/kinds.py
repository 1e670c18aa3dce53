"""``featlas kinds``: what a pipeline, an import or an export can name, and what each does."""

from catalog.errors import UserError


def kinds_command(kind: str | None) -> None:
    """Print every registered name of one kind or of all, those of installed packages included.

    Raises:
        UserError: for an unknown kind, naming those there are.
    """
    from flows.registries import REGISTRIES

    wanted = [registry for registry in REGISTRIES if kind in (None, registry.kind)]
    if not wanted:
        known = ", ".join(registry.kind for registry in REGISTRIES)
        raise UserError(f"there is no kind {kind!r}; kinds are {known}")
    for registry in wanted:
        print(registry.kind)
        for name in registry:
            print(f"  {name:32} {registry.purpose(name)}")
