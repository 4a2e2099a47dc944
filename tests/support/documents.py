"""OpenAPI documents as clients read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from openapi_schema_validator import OAS31Validator

Json = dict[str, Any]

_HEADERS_OF_ALL_ANSWERS = {
    "access-control-allow-origin",
    "access-control-expose-headers",
    "referrer-policy",
    "x-content-type-options",
}
_HEADERS_OF_HTTP_ITSELF = {"connection", "content-length", "content-type", "date", "server", "transfer-encoding"}


@dataclass(frozen=True)
class Operation:
    """One method of one path, or a webhook.

    Attributes:
        document: What it is described in.
        spec: Its own description.
    """

    document: Json
    path: str
    method: str
    spec: Json

    @property
    def id(self) -> str:
        """Its name."""
        return str(self.spec["operationId"])

    @property
    def parameters(self) -> list[Json]:
        """What it takes besides its body."""
        return list(self.spec.get("parameters", []))

    @property
    def responses(self) -> dict[str, Json]:
        """What it answers, by status or `default`."""
        return dict(self.spec["responses"])

    def validate(self, value: object, schema: Json) -> None:
        """Check a value against a schema of the document.

        Raises:
            ValidationError: It does not fit.
        """
        OAS31Validator(schema | {"components": self.document["components"]}).validate(value)

    def messages(self, status: str) -> set[str]:
        """Return the plain texts that are shown for a status; a file may be a text, but is none of them."""
        content = self.responses.get(status, {}).get("content", {}).get("text/plain", {})
        if content.get("schema", {}).get("format") == "binary":
            return set()
        examples = [example["value"] for example in content.get("examples", {}).values()]
        return {*examples, *([content["example"]] if "example" in content else [])}

    def check(self, answer: httpx.Response) -> None:
        """Check that an answer is one of those that the document describes."""
        told = f"{self.method} {self.path}: {answer.status_code} {answer.text[:100]!r}"
        assert str(answer.status_code) in self.responses, told
        described = self.responses[str(answer.status_code)]
        headers = {name.lower() for name in described.get("headers", {})}
        assert set(answer.headers) - _HEADERS_OF_HTTP_ITSELF <= headers, told
        assert _HEADERS_OF_ALL_ANSWERS <= set(answer.headers), told
        assert ("retry-after" in headers) == ("retry-after" in answer.headers), told
        if self.method == "head" or "content" not in described:
            assert answer.content == b"", told
            return
        media_type = answer.headers["content-type"].partition(";")[0]
        contents = {name.partition(";")[0]: content for name, content in described["content"].items()}
        assert media_type in contents, told
        schema = contents[media_type]["schema"]
        if media_type == "application/json" and schema.get("format") != "binary":
            self.validate(answer.json(), schema)
        elif answer.is_error:
            assert answer.text in self.messages(str(answer.status_code)), told

    def request(self, base_url: str, **values: Any) -> httpx.Request:
        """Build a request as Swagger UI does when a visitor fills in these values and leaves all others as they are.

        Args:
            base_url: The service's URL.
            values: By the names of parameters and form fields; `body` for what is neither, and `bearer` for the token
                that goes into the header `Authorization`.
        """
        path, query, headers = self.path, {}, {}
        if "bearer" in values:
            assert self.spec["security"], self.id
            headers["Authorization"] = f"Bearer {values.pop('bearer')}"
        for parameter in self.parameters:
            name = parameter["name"]
            if name not in values:
                assert not parameter["required"], name
                continue
            value = values.pop(name)
            if parameter["in"] == "path":
                path = path.replace(f"{{{name}}}", quote(value, safe=""))
            elif parameter["in"] == "query":
                query[name] = value
            else:
                headers[name] = value
        body: dict[str, Any] = {}
        if "requestBody" in self.spec:
            media_type, content = next(iter(self.spec["requestBody"]["content"].items()))
            schema = content["schema"]
            if media_type == "application/json":
                properties = schema["properties"].items()
                body = {"json": {name: values.pop(name, None) or _shown(each) for name, each in properties}}
            elif schema["type"] == "object":
                body = _form(schema, values, media_type)
            else:
                body = {"content": values.pop("body")}
                headers["Content-Type"] = media_type
        assert not values, f"{self.id} does not take {values}"
        return httpx.Request(self.method.upper(), base_url + path, params=query, headers=headers, **body)


def operations(document: Json) -> Iterator[Operation]:
    """Yield what a document describes, webhooks excepted."""
    for path, item in document["paths"].items():
        for method, spec in item.items():
            yield Operation(document, path, method, spec)


def _form(schema: Json, values: dict[str, Any], media_type: str) -> dict[str, Any]:
    fields, files = {}, {}
    for name, described in schema["properties"].items():
        value = values.pop(name) if name in values else _shown(described)
        if described.get("format") == "binary":
            files[name] = ("file.bin", value)
        else:
            fields[name] = value
    assert bool(files) == (media_type == "multipart/form-data")
    return {"data": fields, "files": files or None}


def _shown(schema: Json) -> Any:
    """Return what Swagger UI puts into a field of a form before the visitor does."""
    if "default" in schema:
        return schema["default"]
    return schema["examples"][0] if "examples" in schema else schema["enum"][0]
