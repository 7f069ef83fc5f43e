"""`/`: the console, one static page that uses the API like anybody else."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

router = APIRouter()

PAGE = Path(__file__).parent.parent / "console" / "index.html"


@router.get("/", include_in_schema=False)
async def console() -> Response:
    """The page."""
    page, policy = _page()
    return Response(
        page,
        media_type="text/html; charset=utf-8",
        headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"},
    )


@cache
def _page() -> tuple[bytes, str]:
    page = PAGE.read_bytes()
    return page, policy_of(page)


def policy_of(page: bytes) -> str:
    """What a browser may do on this page: run its one script, use its one style, and talk to where it came from."""
    script, style = _hash(page, b"script"), _hash(page, b"style")
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(page: bytes, tag: bytes) -> str:
    inside = re.search(rb"<%s>(.*?)</%s>" % (tag, tag), page, re.DOTALL)
    assert inside is not None, f"the console has no <{tag.decode()}>"
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside[1]).digest()).decode()}'"
