"""A stand-in for accelerate, whose one class denoising-diffusion-pytorch's trainer uses and its network does not."""


class Accelerator:
    def __init__(self, **_: object) -> None:
        raise RuntimeError("accelerate.Accelerator is not here: benchmarks measure networks, without accelerate")
