"""Registries: a new file adds a thing. A registry loads the modules of a folder, and plugins.

A plugin is an installed package with an entry point in the group of the registry, for example::

    [project.entry-points."featlas.architecture"]
    mine = "my_package.my_architecture"

The entry point names a module; importing it registers its classes, as importing a module of the folder does.
"""

import importlib
import inspect
import logging
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Registry(Generic[T]):
    """Named classes of one kind: the modules of ``package``, then the entry points of ``group``.

    Raises ``ValueError`` (which pydantic turns into a readable message) for a duplicate or unknown name,
    and lists the known ones. A plugin that cannot be loaded is logged, and listed with the known names in
    the error for an unknown name; everything else stays usable. A class without a ``purpose`` is refused.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._items: dict[str, type[T]] = {}
        self._broken: list[str] = []
        self._loaded = False

    @property
    def group(self) -> str:
        """The entry point group of plugins, for example ``featlas.corpus_source``."""
        return f"featlas.{self.kind.replace(' ', '_')}"

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator: make the class, which says its ``purpose`` in one line, known as ``name``.

        The type of its attribute ``config`` becomes its ``Config`` where it has none.
        """

        def add(item: type[T]) -> type[T]:
            purpose = vars(item).get("purpose")
            if not isinstance(purpose, str) or len(purpose.splitlines()) != 1:
                raise ValueError(f"{self.kind} {name!r} needs an attribute purpose: one line of text")
            known = self._items.get(name)
            if known is not None and known.__qualname__ != item.__qualname__:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            settings = inspect.get_annotations(item).get("config")
            if "Config" not in vars(item) and isinstance(settings, type):
                setattr(item, "Config", settings)  # noqa: B010
            self._items[name] = item
            return item

        return add

    def __getitem__(self, name: str) -> type[T]:
        self._load()
        try:
            return self._items[name]
        except KeyError:
            known = "; ".join([", ".join(self.names()), *self._broken])
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

    def purpose(self, name: str) -> str:
        """The one line that says what the thing of this name does."""
        return str(vars(self[name])["purpose"])

    def resolve_config(self, field: str) -> Callable[[Any], Any]:
        """A pydantic ``BeforeValidator``: a mapping becomes the Config of the class it names.

        The class with the name ``value[field]`` holds its configuration class as ``Config``.
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
        for plugin in sorted(entry_points(group=self.group), key=lambda plugin: plugin.name):
            known = dict(self._items)
            try:
                plugin.load()
            except Exception as error:
                self._items = known
                owner = plugin.dist.name if plugin.dist is not None else plugin.value
                self._broken.append(
                    f"plugin {plugin.name!r} of {owner} cannot be loaded: {type(error).__name__}: {error}"
                )
                logger.warning("%s %s", self.kind, self._broken[-1])
