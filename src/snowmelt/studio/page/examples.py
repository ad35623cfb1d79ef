"""Pictures that are there before anybody brings one: photographs that come with scikit-image, and a handwritten digit of scikit-learn."""

import functools
import shlex

from torch import Tensor

from snowmelt.data import bundled
from snowmelt.data.images import from_uint8

_PHOTOS = {"cat": "chelsea.png", "astronaut": "astronaut.png", "coffee": "coffee.png", "motorcycle": "motorcycle_left.png", "rocket": "rocket.jpg"}
_DIGIT = "digit, 8 px"
NAMES = (*_PHOTOS, _DIGIT)
IMPORTS = "from snowmelt.data import bundled, images"  # of the lines that write one
_WHOLE = 1 << 20  # no photograph is halved


@functools.cache
def example(name: str) -> Tensor:
    """A bundled picture, (c, h, w) in [-1, 1]; not to be changed.

    Raises:
        KeyError: there is none of this name.
        FileNotFoundError: scikit-image is installed without its pictures.
    """
    return from_uint8(bundled.digits()[0] if name == _DIGIT else bundled.photo(_PHOTOS[name], _WHOLE))


def file_of(name: str) -> str:
    """What a bundled picture is called as a file."""
    return f"{name.partition(',')[0]}.png"


def python(name: str) -> str:
    """The line of Python that writes a bundled picture as a file into the folder where it runs, after :data:`IMPORTS`."""
    pixels = "bundled.digits()[0]" if name == _DIGIT else f'bundled.photo("{_PHOTOS[name]}", {_WHOLE})'
    return f'images.write("{file_of(name)}", images.from_uint8({pixels}))'


def shell(name: str) -> str:
    """The same as a command: without it, nobody has the file that the commands of the page are about."""
    return shlex.join(["python", "-c", f"{IMPORTS}; {python(name)}"])
