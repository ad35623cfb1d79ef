"""Pictures that are there before anybody brings one: photographs that come with scikit-image, and a handwritten digit of scikit-learn."""

import functools

from torch import Tensor

from snowmelt.data import bundled
from snowmelt.data.images import from_uint8

_PHOTOS = {"cat": "chelsea.png", "astronaut": "astronaut.png", "coffee": "coffee.png", "motorcycle": "motorcycle_left.png", "rocket": "rocket.jpg"}
_DIGIT = "digit, 8 px"
NAMES = (*_PHOTOS, _DIGIT)
_WHOLE = 1 << 20  # no photograph is halved


@functools.cache
def example(name: str) -> Tensor:
    """A bundled picture, (c, h, w) in [-1, 1]; not to be changed.

    Raises:
        KeyError: there is none of this name.
        FileNotFoundError: scikit-image is installed without its pictures.
    """
    return from_uint8(bundled.digits()[0] if name == _DIGIT else bundled.photo(_PHOTOS[name], _WHOLE))
