"""GET /docs: the API description as one page that needs nothing from elsewhere.

Signalling networks have no way out, so a page that fetches its scripts from a content network
stays blank there.
"""

from html import escape
from typing import Any, Final

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
h1 small{font-weight:400;color:#666}h2{margin-top:2.5rem;border-bottom:1px solid #ddd}
code{background:#f4f4f4;padding:.1em .3em;border-radius:3px}
.verb{display:inline-block;min-width:3.5em;font-weight:700;color:#06c}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;
padding:.3rem .6rem;border-bottom:1px solid #eee}th{color:#666;font-weight:600}
"""


def reference_page(api: dict[str, Any]) -> str:
    """An OpenAPI 3.1 document as HTML: each operation, its fields, its answers."""
    info = api["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        f"<p>{escape(info.get('summary', ''))} ",
        "The same as JSON: <a href=/openapi.json>/openapi.json</a>.</p>",
    ]
    for path, operations in api["paths"].items():
        for verb, operation in operations.items():
            parts.append(_operation(path, verb, operation))
    parts.append("<h1>Schemas</h1>")
    for name, schema in api.get("components", {}).get("schemas", {}).items():
        parts.append(f"<h2 id='{escape(name)}'>{escape(name)}</h2>")
        parts.append(f"<p>{_text(schema.get('description', ''))}</p>")
        rows = [
            (field, name_of(each), field in schema.get("required", ()), each.get("description", ""))
            for field, each in schema.get("properties", {}).items()
        ]
        parts.append(_table(rows))
    return "".join(parts)


def _operation(path: str, verb: str, operation: dict[str, Any]) -> str:
    parts = [
        f"<h2><span class=verb>{verb.upper()}</span> <code>{escape(path)}</code></h2>",
        f"<p>{_text(operation.get('summary', ''))}</p>",
    ]
    if operation.get("security"):
        parts.append("<p>Needs a key: <code>Authorization: Bearer …</code></p>")
    parameters = operation.get("parameters", [])
    if parameters:
        rows = [
            (p["name"], name_of(p["schema"]), p.get("required", False), p.get("description", ""))
            for p in parameters
        ]
        parts.append(_table(rows))
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body: <code>{escape(media)}</code> {name_of(content['schema'])}</p>")
    answers = [
        (status, " ".join(name_of(c["schema"]) for c in answer.get("content", {}).values()),
         False, answer.get("description", ""))
        for status, answer in operation.get("responses", {}).items()
    ]  # fmt: skip
    parts.append(_table(answers, head="Answer"))
    return "".join(parts)


def name_of(schema: dict[str, Any]) -> str:
    """What a schema is called: a link to a named one, else its type and values, as HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f"<a href='#{name}'>{name}</a>"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(name_of(each) for each in schema[several])
    if "enum" in schema:
        return "one of " + ", ".join(f"<code>{escape(str(v))}</code>" for v in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return "array of " + name_of(schema.get("items", {}))
    return escape(" or ".join(kind) if isinstance(kind, list) else str(kind))


def _text(text: str) -> str:
    """Backquoted words become code, the rest is escaped."""
    pieces = escape(text).split("`")
    return "".join(p if i % 2 == 0 else f"<code>{p}</code>" for i, p in enumerate(pieces))


def _table(rows: list[tuple[str, str, bool, str]], head: str = "Field") -> str:
    if not rows:
        return ""
    body = "".join(
        f"<tr><td><code>{escape(name)}</code>{' <b>required</b>' if required else ''}"
        f"<td>{kind}<td>{_text(meaning)}"
        for name, kind, required, meaning in rows
    )
    return f"<table><tr><th>{head}<th>Type<th>Meaning{body}</table>"
