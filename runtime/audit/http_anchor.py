"""An HTTP service that takes heads: each is one POST of JSON, and any 2xx says that it is kept."""

import httpx

from ...contracts import Unavailable
from .head import SignedHead


class HttpAnchor:
    """A service such as a transparency log's front, a bucket with retention, or another department's collector."""

    def __init__(self, url: str, token: str | None = None, timeout_seconds: float = 10) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.AsyncClient(headers=headers, timeout=timeout_seconds, follow_redirects=False)
        self._url = url
        self.name = f"http {httpx.URL(url).host}"

    async def keep(self, head: SignedHead) -> None:
        try:
            answer = await self._http.post(self._url, json=head.to_data())
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.name}: {type(error).__name__}") from error
        if not answer.is_success:
            raise Unavailable(f"{self.name} answers {answer.status_code}")

    async def last(self, journal: str) -> SignedHead | None:
        return None

    async def close(self) -> None:
        await self._http.aclose()
