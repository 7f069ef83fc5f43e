"""What every test gets: `hanse` is this checkout, here and in every process that a test starts."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _is_this_checkout() -> bool:
    spec = find_spec("hanse")
    origin = spec.origin if spec else None
    return origin is not None and Path(origin).resolve() == ROOT / "__init__.py"


def _import_from_here() -> None:
    """A folder in which `hanse` is a link to the checkout: what the editable install does, with nothing installed."""
    path = ROOT / ".make" / "path"
    path.mkdir(parents=True, exist_ok=True)
    if not (path / "hanse").exists():
        (path / "hanse").symlink_to(ROOT, target_is_directory=True)
    sys.path.insert(0, str(path))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(path), *filter(None, [os.environ.get("PYTHONPATH")])])


if not _is_this_checkout():
    _import_from_here()
