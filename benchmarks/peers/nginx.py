"""nginx with Lua over the index of a nation: doing only what a call of the service reads."""

import os
import re
from pathlib import Path
from typing import Final

import redis

from benchmarks.nation import Nation
from consent.category import BIT
from consent.index import layout
from consent.record import ListKind, Record

HERE: Final = Path(__file__).parent
MODULES: Final = Path("/usr/lib/nginx/modules")
FORM: Final = re.compile(r"(\d+)([dsm])(\d*)")
"""How the stamp says that a category of a list is written (see `consent.index.layout`)."""


def write_configuration(
    folder: Path, nation: Nation, *, record: Record, redis_url: str, port: int
) -> Path:
    """The configuration in `folder`, over the index at `redis_url`; the file of it."""
    folder.mkdir(parents=True, exist_ok=True)
    lists = {
        each.category: each.id for each in record.catalogue.lists() if each.kind is ListKind.DNC
    }
    with redis.Redis.from_url(redis_url) as client:
        stamp = client.hgetall(layout.SIDES[0].stamp_key(0))
    (folder / "plan.lua").write_text(_plan(nation, lists, stamp, redis_url))
    words = {
        "FOLDER": str(folder),
        "HERE": str(HERE),
        "MODULES": str(MODULES),
        "PORT": str(port),
        # The socket of the embedded server is its owner's alone.
        "USER": "user root;" if os.geteuid() == 0 else "",
    }
    text = (HERE / "nginx.conf").read_text()
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    file = folder / "nginx.conf"
    file.write_text(text)
    return file


def _plan(nation: Nation, lists: dict[str, int], stamp: dict[bytes, bytes], redis_url: str) -> str:
    """What the service has in memory, as a Lua module: callers, lists, how the index is laid out.

    A call of a trade looks at the list of the trade and at that for all, each as the stamp says
    it is written.
    """
    looks = []
    for trade in ("", *sorted({each.category for each in nation.businesses})):
        seen = [(category, lists[category]) for category in lists if category in ("all", trade)]
        reads = [each for category, i in seen for each in _reads(category, i, stamp[b"l%d" % i])]
        fields = ", ".join(['"e"', '"q"', *(f'"l{i}"' for _, i in seen)])
        looks.append(f'["{trade}"] = {{ stamp = {{ {fields} }}, {", ".join(reads)} }}')
    entities = [
        f'[{each.number}] = {{ id = {n}, category = "{each.category}" }}'
        for n, each in enumerate(nation.businesses, 1)
    ]
    epoch = stamp[b"e"].decode()
    socket = redis_url.partition("?")[0].replace("unix://", "unix:")
    parts = (
        f'socket = "{socket}"',
        f'epoch = "{epoch}"',
        f"block = {layout.BLOCK}",
        f"span = {layout.SPAN}",
        f"width = {layout.bucket_width(epoch)}",
        f"shards = {layout.SHARDS}",
        f"looks = {{ {', '.join(looks)} }}",
        f"entities = {{ {', '.join(entities)} }}",
    )
    return "return {\n  " + ",\n  ".join(parts) + ",\n}\n"


def _reads(category: str, list_id: int, readable: bytes) -> list[str]:
    """The reads of a list for a category: of a bitmap, of gaps by a width, or of both."""
    generation, _, forms = readable.decode().split(" ")[-1].partition(":")
    made = []
    for bit, kind, width in FORM.findall(forms):
        if int(bit) != BIT[category]:
            continue
        name = f"{list_id}.{generation}:{bit}:"
        if kind in "dm":
            made.append(f'{{ key = ":d:{name}", width = 0 }}')
        if kind in "sm":
            made.append(f'{{ key = ":p:{name}", width = {width} }}')
    return made
