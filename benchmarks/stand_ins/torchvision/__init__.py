"""A stand-in for torchvision, of which denoising-diffusion-pytorch needs names at its import and nothing else to build its network.

The real one would bring a torch of its own. What is used of it anyway fails, by name.
"""

from torchvision import transforms, utils

__all__ = ["transforms", "utils"]
