"""The tabs of the page, one file each: a function ``tab(desk)`` that is called inside its ``gr.Tab``."""
