"""The page: its blocks, what its tabs share, and the tabs."""
