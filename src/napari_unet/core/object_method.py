"""Ways from classes to objects, and which one suits a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from napari_unet.core.classes import ClassName
from napari_unet.core.settings import Settings
from napari_unet.core.watershed_options import WatershedOptions
from napari_unet.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

ObjectMethod = Literal["components", "watershed", "interior"]
"""Objects are what hangs together, what boundaries enclose, or interiors grown into a border."""

Dimension = Literal["2d", "linked", "3d"]
"""Each slice by itself; each slice, then linked to the next; or the volume as one."""

BACKGROUND_NAMES = frozenset({"background"})
"""Names, in lower case, of classes that are no object."""

BOUNDARY_NAMES = frozenset({"membrane", "membranes", "boundary", "border"})
"""Names, in lower case, of classes that lie between objects."""


class ObjectDefaults(Settings):
    """How a model's classes become objects, unless the user says otherwise.

    Parameters
    ----------
    method : {"components", "watershed", "interior"}
        The way.
    classes : tuple of str
        Names of the classes that objects are made of: each makes objects of its own by
        `components`, all together those of `watershed`, the one interior those of `interior`.
    boundary : str or None
        Name of the class between objects; None for `components`.
    dimension : {"2d", "linked", "3d"} or None
        For stacks; None = the method's own.
    watershed : WatershedOptions
        Seeds and merging of `watershed`.

    Raises
    ------
    ConfigError
        If the classes do not fit the method.
    """

    method: ObjectMethod
    classes: tuple[ClassName, ...]
    boundary: ClassName | None = None
    dimension: Dimension | None = None
    watershed: WatershedOptions = WatershedOptions()

    @model_validator(mode="after")
    def _complete(self) -> ObjectDefaults:
        if (self.boundary is None) != (self.method == "components"):
            needed = "takes no" if self.method == "components" else "needs a"
            raise ValueError(f"the method {self.method} {needed} boundary class")
        count = len(self.classes)
        if not count or (self.method == "interior" and count != 1):
            raise ValueError(
                f"the method {self.method} makes objects of "
                f"{'one class' if self.method == 'interior' else 'at least one class'}, "
                f"{count} are named"
            )
        if self.boundary in self.classes:
            raise ValueError(f"the class {self.boundary!r} is both the boundary and in objects")
        return self

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse classes that a model does not have.

        Raises
        ------
        ConfigError
            Naming the class, and those there are.
        """
        for name in (*self.classes, *(() if self.boundary is None else (self.boundary,))):
            if name not in names:
                raise ConfigError(
                    f"there is no class {name!r} to make objects with; the classes are "
                    f"{', '.join(names)}"
                )


def suited_method(class_names: Sequence[str]) -> ObjectDefaults:
    """Return how classes of these names become objects where nothing else is said.

    ============================================== ==========================================
    names                                          method
    ============================================== ==========================================
    a background, a boundary and one more          interior: the last, grown into the boundary
    a boundary and one more                        watershed on the boundary
    others                                         components of each class that is neither
                                                   background nor boundary; of all if none is
    ============================================== ==========================================

    Parameters
    ----------
    class_names : sequence of str
        Of the classes 1, 2, ...; case does not matter.

    Examples
    --------
    >>> suited_method(["interior", "membrane"]).method
    'watershed'
    >>> suited_method(["background", "border", "interior"]).method
    'interior'
    >>> suited_method(["background", "mitochondria", "vesicles"]).classes
    ('mitochondria', 'vesicles')
    """
    background = [name for name in class_names if name.lower() in BACKGROUND_NAMES]
    boundary = [name for name in class_names if name.lower() in BOUNDARY_NAMES]
    others = tuple(name for name in class_names if name not in {*background, *boundary})
    if len(boundary) == 1 and len(others) == 1:
        method: ObjectMethod = "interior" if background else "watershed"
        return ObjectDefaults(method=method, classes=others, boundary=boundary[0])
    return ObjectDefaults(method="components", classes=others or tuple(class_names))
