"""Walking over results page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Generic, Protocol, TypeVar

from ..errors import BadAnswerError, UsageError
from ..model.base import Page

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

PAGE_MAX = 1_000


class Fetch(Protocol[T_co]):
    """Asks for a page: at most so many from a cursor on; returns them and where the next page begins."""

    async def __call__(self, cursor: str, limit: int) -> tuple[Sequence[T_co], str]:
        """See the class."""
        ...


class Pager(Generic[T]):
    """Results that come page by page, as they are asked for; one page is held at a time.

    Iterate over the results themselves, over `pages()`, or take `all()`. A walk goes on where it stands: after a
    failed call, asking again asks for the same page.

    Attributes:
        cursor: Where the next page begins; `None` at the end. Another pager goes on from it, in another program too.
    """

    def __init__(self, fetch: Fetch[T], *, limit: int | None, page_size: int, cursor: str | None) -> None:
        if not 1 <= page_size <= PAGE_MAX:
            raise UsageError(f"page_size is 1 to {PAGE_MAX}")
        if limit is not None and limit < 0:
            raise UsageError("limit can't be negative")
        self.cursor: str | None = cursor or ""
        self._fetch = fetch
        self._left = limit
        self._page_size = page_size

    async def page(self) -> Page[T] | None:
        """The next page; `None` at the end or at the limit."""
        if self.cursor is None or self._left == 0:
            return None
        limit = self._page_size if self._left is None else min(self._left, self._page_size)
        items, next_cursor = await self._fetch(self.cursor, limit)
        if next_cursor and next_cursor == self.cursor:
            raise BadAnswerError("a page's cursor leads to the same page")
        self.cursor = next_cursor or None
        if self._left is not None:
            items = items[: self._left]
            self._left -= len(items)
        return Page(items, self.cursor)

    async def pages(self) -> AsyncIterator[Page[T]]:
        """The pages that are left."""
        while True:
            page = await self.page()
            if page is None:
                return
            yield page

    async def __aiter__(self) -> AsyncIterator[T]:
        async for page in self.pages():
            for item in page:
                yield item

    async def all(self) -> Page[T]:
        """All results that are left, together: give a limit where there may be many."""
        found: list[T] = []
        async for page in self.pages():
            found.extend(page)
        return Page(found, self.cursor)
