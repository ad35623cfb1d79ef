"""Stands in for torchvision.transforms: nothing of it is here."""


def __getattr__(name: str) -> None:
    if name.startswith("__"):
        raise AttributeError(name)
    raise RuntimeError(f"torchvision.transforms.{name} is not here: benchmarks measure networks, without torchvision")
