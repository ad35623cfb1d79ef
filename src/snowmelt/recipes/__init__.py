"""Recipes: presets (\\*.toml), the dataclasses that read them, and runs made from them."""
