"""One file to add a thing: a registry that fills itself from the modules of a folder."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Named classes of one kind; importing ``package`` once registers its modules.

    Raises ``ValueError`` (which pydantic turns into a readable message) for a duplicate or unknown
    name, listing the known ones.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._items: dict[str, type[T]] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator: make the class known as ``name``."""

        def add(item: type[T]) -> type[T]:
            known = self._items.get(name)
            if known is not None and known.__qualname__ != item.__qualname__:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._items[name] = item
            return item

        return add

    def __getitem__(self, name: str) -> type[T]:
        self._load()
        try:
            return self._items[name]
        except KeyError:
            known = ", ".join(self.names())
            raise ValueError(f"unknown {self.kind} {name!r}; known: {known}") from None

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> tuple[str, ...]:
        """All registered names, sorted."""
        self._load()
        return tuple(sorted(self._items))

    def resolve_config(self, field: str) -> Callable[[Any], Any]:
        """A pydantic ``BeforeValidator``: a mapping becomes the Config of the class it names.

        The class named by ``value[field]`` holds its configuration class as ``Config``.
        """

        def resolve(value: Any) -> Any:
            if not isinstance(value, Mapping):
                return value
            name = value.get(field)
            if not isinstance(name, str):
                known = ", ".join(self.names())
                raise ValueError(f"name the {self.kind} in {field!r}; known: {known}")
            config_class: Any = getattr(self[name], "Config")  # noqa: B009
            return config_class.model_validate(value)

        return resolve

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
