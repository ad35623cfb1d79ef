"""Recipes: presets (TOML files), the dataclasses that read them, and runs made from them."""
