"""Every restorer of scikit-image that fits a photograph, with the few parameters that are tuned.

A method gets pixels (h, w, 3) in [0, 1], what is known, and its parameters. *Blind*, the noise is what
``estimate_sigma`` finds and a blur is a Gaussian of tuned width; *non-blind*, both are true. The strength of a denoiser is
gain * sigma + add: JPEG leaves no white noise to estimate, so `add` is its strength there, and both at 0 is to do nothing.

Left out: ``inpaint_biharmonic`` (it needs a mask, and no damage here has one), ``rolling_ball`` (removes the background
of micrographs), ``unwrap_phase`` (no picture), ``denoise_invariant`` and ``calibrate_denoiser`` (they choose the parameters
of the denoisers below without clean pictures; here they are chosen with them, which is the better choice),
and the ``pyramid_*`` functions of skimage.transform (the same interpolation, then blurred). scikit-image has no Lanczos
filter and no convolution bicubic: those two are Pillow's.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from damages import Damage, Known
from numpy.typing import NDArray
from PIL import Image
from skimage import filters, morphology, restoration, transform

Pixels: TypeAlias = NDArray[np.float32]
Form: TypeAlias = Literal["blind", "non-blind"]
Parameters: TypeAlias = Mapping[str, Any]
SHAPES = ("patch", "reach", "ycbcr", "spatial")
_PAD_PX = 16  # the deconvolutions wrap around: mirrored surroundings keep the far edge out
_BOX = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]).astype(np.float32)  # means of 2 x 2 px, seen from a pixel's middle


@dataclass(frozen=True)
class Method:
    """A restorer and its grid.

    Attributes:
        name: in the results.
        role: "denoise", "deblur", "enlarge" or "shot".
        run: (pixels, known, **parameters) to pixels.
        grid: the values of each parameter that are tried.
        forms: whether it exists without, or with, being told.
    """

    name: str
    role: str
    run: Callable[..., Pixels]
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    forms: tuple[Form, ...] = ("blind", "non-blind")

    def values(self, form: Form, damage: Damage) -> dict[str, tuple[Any, ...]]:
        """The grid as it is for a form: who knows the noise adds nothing to it, who knows the kernel needs no width."""
        grid = dict(self.grid)
        if form == "non-blind" and damage.sigma and "add" in grid:
            grid["add"] = (0,)
        if form == "non-blind" and "width" in grid:
            grid["width"] = (0.0,)
        return grid

    def choose(self, form: Form, damage: Damage, merit: Callable[[Parameters], float]) -> tuple[dict[str, Any], float]:
        """The parameters of highest merit, and that: the strengths on their grid first, then the `SHAPES` at that strength."""
        grid = self.values(form, damage)
        best, top = {name: values[0] for name, values in grid.items()}, -np.inf
        chosen = best
        for names in ([n for n in grid if n not in SHAPES], [n for n in grid if n in SHAPES]):
            for values in itertools.product(*(grid[n] for n in names)) if names else ():
                tried = best | dict(zip(names, values, strict=True))
                found = merit(tried)
                if found > top:
                    chosen, top = tried, found
            best = chosen
        return best, top

    def __call__(self, y: Pixels, known: Known, parameters: Parameters) -> Pixels:
        """The restored pixels, clipped to [0, 1]; values that are not finite, which no method may return, become 0."""
        return np.nan_to_num(np.clip(self.run(y, known, **parameters), 0, 1)).astype(np.float32)


def blind(y: Pixels) -> Known:
    """All that a blind restorer knows: the noise as estimated from the damaged picture itself."""
    return Known(sigma=float(np.nan_to_num(restoration.estimate_sigma(y, channel_axis=-1, average_sigmas=True))))


def _strength(known: Known, gain: float, add: float) -> float:
    return gain * known.sigma + add / 255


def nl_means(y: Pixels, known: Known, *, gain: float, add: float, patch: int, reach: int) -> Pixels:
    h = _strength(known, gain, add)
    if h <= 0:
        return y
    return restoration.denoise_nl_means(y, patch, reach, h=h, sigma=known.sigma, fast_mode=True, channel_axis=-1)


def _wavelet(method: str) -> Callable[..., Pixels]:
    def run(y: Pixels, known: Known, *, gain: float, add: float, ycbcr: bool) -> Pixels:
        sigma = _strength(known, gain, add)
        settings = {"sigma": sigma, "method": method, "convert2ycbcr": ycbcr, "channel_axis": -1, "rescale_sigma": True}
        return restoration.denoise_wavelet(y, **settings) if sigma > 0 else y

    return run


def spun_wavelet(y: Pixels, known: Known, *, gain: float, add: float, ycbcr: bool) -> Pixels:
    sigma = _strength(known, gain, add)
    if sigma <= 0:
        return y
    settings = {"sigma": sigma, "method": "BayesShrink", "convert2ycbcr": ycbcr, "channel_axis": -1, "rescale_sigma": True}
    return restoration.cycle_spin(y, restoration.denoise_wavelet, max_shifts=3, channel_axis=-1, workers=1, func_kw=settings)


def tv_chambolle(y: Pixels, known: Known, *, gain: float, add: float) -> Pixels:
    weight = _strength(known, gain, add)
    return restoration.denoise_tv_chambolle(y, weight=weight, channel_axis=-1) if weight > 0 else y


def tv_bregman(y: Pixels, known: Known, *, gain: float, add: float) -> Pixels:
    weight = _strength(known, gain, add)
    return restoration.denoise_tv_bregman(y, weight=1 / weight, channel_axis=-1) if weight > 0 else y


def bilateral(y: Pixels, known: Known, *, gain: float, add: float, spatial: float) -> Pixels:
    colour = _strength(known, gain, add)
    if colour <= 0 or np.ptp(y) == 0:
        return y
    return restoration.denoise_bilateral(y, sigma_color=colour, sigma_spatial=spatial, mode="edge", channel_axis=-1)


def gaussian(y: Pixels, known: Known, *, width: float) -> Pixels:
    return filters.gaussian(y, width, channel_axis=-1)


def median(y: Pixels, known: Known, *, radius: float) -> Pixels:
    shape = morphology.disk(int(radius)) if radius == int(radius) else np.ones((3, 3), dtype=np.uint8)
    return filters.median(y, shape[..., None])


def _each(y: Pixels, solve: Callable[[Pixels], Pixels]) -> Pixels:
    """`solve` for every channel of y with mirrored surroundings."""
    wide = np.pad(y, ((_PAD_PX,) * 2, (_PAD_PX,) * 2, (0, 0)), mode="symmetric")
    out = np.stack([solve(np.ascontiguousarray(wide[..., i])) for i in range(wide.shape[-1])], axis=-1)
    return out[_PAD_PX:-_PAD_PX, _PAD_PX:-_PAD_PX]


def _psf(known: Known, width: float) -> Pixels:
    """The kernel as it is known, or else a Gaussian of `width` px."""
    if known.kernel is not None:
        return known.kernel
    reach = int(np.ceil(4 * width))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    return (np.outer(taps, taps) / taps.sum() ** 2).astype(np.float32)


def wiener(y: Pixels, known: Known, *, width: float, balance: float) -> Pixels:
    psf = _psf(known, width)
    return _each(y, lambda plane: restoration.wiener(plane, psf, balance, clip=False))


def unsupervised_wiener(y: Pixels, known: Known, *, width: float) -> Pixels:
    psf = _psf(known, width)
    return _each(y, lambda plane: restoration.unsupervised_wiener(plane, psf, clip=False, rng=0)[0])


def richardson_lucy(y: Pixels, known: Known, *, width: float, steps: int) -> Pixels:
    psf = np.clip(_psf(known, width), 0, None)  # light is not negative: a kernel's ringing would let the ratio diverge
    return _each(y, lambda plane: restoration.richardson_lucy(plane, psf / psf.sum(), num_iter=steps, filter_epsilon=1e-6))


def nl_means_wiener(y: Pixels, known: Known, *, gain: float, add: float, width: float, balance: float) -> Pixels:
    calm = nl_means(y, known, gain=gain, add=add, patch=5, reach=6)
    return wiener(np.asarray(calm, dtype=np.float32), known, width=width, balance=balance)


def _counted(denoise: Callable[..., Pixels]) -> Callable[..., Pixels]:
    """Anscombe's transform, under which counted photons have noise of 1, a denoiser, and the unbiased inverse (Makitalo and Foi 2011)."""

    def run(y: Pixels, known: Known, **parameters: Any) -> Pixels:
        top = 2 * np.sqrt(known.peak + 0.375)
        root = np.asarray(denoise((2 * np.sqrt(known.peak * y + 0.375) / top).astype(np.float32), Known(1 / top), **parameters)) * top
        d = np.maximum(root, 1.0)
        photons = d**2 / 4 + np.sqrt(1.5) / 4 / d - 11 / 8 / d**2 + 5 / 8 * np.sqrt(1.5) / d**3 - 1 / 8
        return np.asarray(photons / known.peak, dtype=np.float32)

    return run


def _resized(order: int) -> Callable[..., Pixels]:
    def run(y: Pixels, known: Known) -> Pixels:
        return transform.resize(y, (2 * y.shape[0], 2 * y.shape[1]), order=order, mode="edge", anti_aliasing=False)

    return run


_bicubic = _resized(3)


def _pillow(kernel: Image.Resampling) -> Callable[..., Pixels]:
    def run(y: Pixels, known: Known) -> Pixels:
        size = (2 * y.shape[1], 2 * y.shape[0])
        return np.stack([np.asarray(Image.fromarray(y[..., i]).resize(size, kernel)) for i in range(3)], axis=-1)

    return run


def _sharpened(y: Pixels, known: Known, *, radius: float, amount: float) -> Pixels:
    return filters.unsharp_mask(np.clip(_bicubic(y, known), 0, 1), radius=radius, amount=amount, channel_axis=-1)


def _then(deblur: Callable[..., Pixels]) -> Callable[..., Pixels]:
    """Bicubic, then a deconvolution of the means of 2 x 2 px."""

    def run(y: Pixels, known: Known, **parameters: Any) -> Pixels:
        big = np.clip(_bicubic(y, known), 0, 1).astype(np.float32)
        return deblur(big, Known(kernel=_BOX), width=0.0, **parameters)

    return run


_ADD = (0, 3, 6, 12)
_BALANCE = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
_WIDTH = (0.7, 1.0, 1.3, 1.6, 2.0)
_WAVELET = {"gain": (0.0, 0.7, 1.0, 1.4, 2.0), "add": _ADD, "ycbcr": (True, False)}
_VISU = {**_WAVELET, "gain": (0.0, 0.1, 0.2, 0.35, 0.5)}
_SPUN = {"gain": (0.0, 0.7, 1.0, 1.4), "add": (0, 4, 10), "ycbcr": (True,)}
_TV = {"gain": (0.0, 0.35, 0.5, 0.75, 1.0, 1.5), "add": (0, 3, 6, 12, 20)}
_BREGMAN = {**_TV, "gain": (0.0, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)}
_NLM = {"gain": (0.0, 0.3, 0.4, 0.5, 0.6, 0.8), "add": _ADD, "patch": (5, 3, 7), "reach": (6, 9)}
_BILATERAL = {"gain": (0.0, 0.3, 0.5, 0.8), "add": (0, 4, 8, 16), "spatial": (1.0, 0.6, 1.6, 2.5)}
_BOTH_STAGES = {"gain": (0.0, 0.4, 0.8), "add": (0, 4), "width": _WIDTH[:-1], "balance": _BALANCE[:-1]}
_ONLY_BLIND: tuple[Form, ...] = ("blind",)
_ONLY_TOLD: tuple[Form, ...] = ("non-blind",)

METHODS = (
    Method("denoise_nl_means", "denoise", nl_means, _NLM),
    Method("denoise_wavelet BayesShrink", "denoise", _wavelet("BayesShrink"), _WAVELET),
    Method("denoise_wavelet VisuShrink", "denoise", _wavelet("VisuShrink"), _VISU),
    Method("cycle_spin denoise_wavelet", "denoise", spun_wavelet, _SPUN),
    Method("denoise_tv_chambolle", "denoise", tv_chambolle, _TV),
    Method("denoise_tv_bregman", "denoise", tv_bregman, _BREGMAN),
    Method("denoise_bilateral", "denoise", bilateral, _BILATERAL),
    Method("filters.gaussian", "denoise", gaussian, {"width": (0.3, 0.5, 0.7, 1.0, 1.5)}, _ONLY_BLIND),
    Method("filters.median", "denoise", median, {"radius": (1, 1.5, 2, 3)}, _ONLY_BLIND),
    Method("wiener", "deblur", wiener, {"width": _WIDTH, "balance": _BALANCE}),
    Method("unsupervised_wiener", "deblur", unsupervised_wiener, {"width": _WIDTH}),
    Method("richardson_lucy", "deblur", richardson_lucy, {"width": _WIDTH, "steps": (1, 2, 3, 5, 10, 20, 40)}),
    Method("denoise_nl_means, wiener", "deblur", nl_means_wiener, _BOTH_STAGES),
    Method("Anscombe, denoise_nl_means", "shot", _counted(nl_means), {**_NLM, "add": (0,)}, _ONLY_TOLD),
    Method("Anscombe, cycle_spin denoise_wavelet", "shot", _counted(spun_wavelet), {**_SPUN, "add": (0,)}, _ONLY_TOLD),
    Method("Anscombe, denoise_tv_chambolle", "shot", _counted(tv_chambolle), {**_TV, "add": (0,)}, _ONLY_TOLD),
    Method("transform.resize linear", "enlarge", _resized(1), {}, _ONLY_BLIND),
    Method("transform.resize cubic", "enlarge", _bicubic, {}, _ONLY_BLIND),
    Method("transform.resize quintic", "enlarge", _resized(5), {}, _ONLY_BLIND),
    Method("Pillow bicubic", "enlarge", _pillow(Image.Resampling.BICUBIC), {}, _ONLY_BLIND),
    Method("Pillow Lanczos", "enlarge", _pillow(Image.Resampling.LANCZOS), {}, _ONLY_BLIND),
    Method("cubic, unsharp_mask", "enlarge", _sharpened, {"radius": (0.3, 0.5, 0.8, 1.2), "amount": (0.1, 0.2, 0.4, 0.8)}, _ONLY_BLIND),
    Method("cubic, wiener", "enlarge", _then(wiener), {"balance": _BALANCE}, _ONLY_TOLD),
    Method("cubic, unsupervised_wiener", "enlarge", _then(unsupervised_wiener), {}, _ONLY_TOLD),
    Method("cubic, richardson_lucy", "enlarge", _then(richardson_lucy), {"steps": (1, 2, 3, 5, 10)}, _ONLY_TOLD),
)


def methods(damage: Damage, form: Form) -> list[Method]:
    """Those that make sense for a damage; one is told only what makes a difference.

    Told or not, a denoiser is the same for a picture that needs no more than denoising at one strength: light noise
    over a blur, photons counted without Anscombe, a clean picture.
    """
    if damage.key == "clean" and form == "non-blind":
        return []
    roles = tuple(role for role in damage.roles if role != "denoise" or form == "blind" or len(damage.roles) == 1)
    return [m for m in METHODS if m.role in roles and form in m.forms]
