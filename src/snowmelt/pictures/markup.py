"""Markup that is ready to be put into a page, told apart from text by its type."""


class Html(str):
    """Markup that is ready to be put into a page; every other string is text, and escaped."""

    __slots__ = ()
