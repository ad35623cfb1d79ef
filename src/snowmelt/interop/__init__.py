"""Other libraries' files and networks: what fits is read and written without loss, and what does not is refused by name.

One neighbour is diffusers: its U-Net is a backbone, its DDPM directories are read as models, and Gaussian models of that backbone are
written as such directories. diffusers is imported when a network of it is built, and not before. The restorer of any model is written as one
graph, for ONNX and for torch.export.
"""

from snowmelt.interop.graph import Exported, to_onnx, to_torch_export
from snowmelt.interop.reading import from_diffusers
from snowmelt.interop.unet2d import DiffusersUNet2D
from snowmelt.interop.writing import to_diffusers

__all__ = ["DiffusersUNet2D", "Exported", "from_diffusers", "to_diffusers", "to_onnx", "to_torch_export"]
