"""Schemas of the kind that people hold answers to, written for these tests: (name, schema, values to begin with).

The first values are meant to be accepted; more, and wrong ones, are made from them by small changes."""


def obj(properties, required=None, extra=False, **more):
    s = {"type": "object", "properties": properties}
    s["required"] = list(properties) if required is None else required
    if extra is not None:
        s["additionalProperties"] = extra
    s.update(more)
    return s


def arr(items, **more):
    return dict({"type": "array", "items": items}, **more)


def ref(name):
    return {"$ref": "#/$defs/" + name}


def null_or(s):
    return {"anyOf": [s, {"type": "null"}]}


S = {"type": "string"}
I = {"type": "integer"}
N = {"type": "number"}
B = {"type": "boolean"}
DRAFT = "https://json-schema.org/draft/2020-12/schema"

REAL = []


def real(name, schema, *values):
    REAL.append((name, schema, list(values)))


# ---- manifests and configuration ----

real(
    "package manifest",
    {
        "$schema": DRAFT, "title": "Package", "type": "object", "required": ["name", "version"],
        "properties": {
            "name": {"type": "string", "pattern": "^(@[a-z0-9-]+/)?[a-z0-9][a-z0-9._-]*$", "maxLength": 60},
            "version": {"type": "string", "pattern": "^(0|[1-9][0-9]*)\\.(0|[1-9][0-9]*)\\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$"},
            "description": S, "private": B, "license": S, "homepage": {"type": "string", "format": "uri"},
            "keywords": arr(S), "main": S,
            "bin": {"anyOf": [S, {"type": "object", "additionalProperties": S}]},
            "scripts": {"type": "object", "additionalProperties": S},
            "dependencies": ref("versions"), "devDependencies": ref("versions"),
            "author": {"anyOf": [S, obj({"name": S, "email": {"type": "string", "format": "email"}, "url": S}, ["name"])]},
            "engines": {"type": "object", "patternProperties": {"^(node|npm)$": S}, "additionalProperties": False},
        },
        "additionalProperties": False,
        "$defs": {"versions": {"type": "object", "propertyNames": {"pattern": "^[@a-z0-9/._-]+$"}, "additionalProperties": {"type": "string", "pattern": "^([~^]|>=)?[0-9]+(\\.[0-9]+){0,2}$"}}},
    },
    {"name": "@acme/tools", "version": "1.2.3-beta.1", "private": True, "scripts": {"build": "make", "test": "make test"}, "dependencies": {"left": "^1.0.0", "right": ">=2.1"}},
    {"name": "demo", "version": "0.1.0", "author": {"name": "A", "email": "a@b.example"}, "bin": {"x": "./x.js"}, "engines": {"node": "20"}},
)
real(
    "compose file",
    obj({
        "name": S,
        "services": {"type": "object", "minProperties": 1, "patternProperties": {"^[a-z][a-z0-9_-]*$": ref("service")}, "additionalProperties": False},
        "volumes": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
    }, ["services"], **{"$defs": {"service": obj({
        "image": S, "build": {"anyOf": [S, obj({"context": S, "args": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}}, ["context"])]},
        "ports": arr({"type": "string", "pattern": "^\\d{1,5}:\\d{1,5}$"}), "environment": {"type": "object", "additionalProperties": {"type": ["string", "integer", "null"]}},
        "restart": {"enum": ["no", "always", "on-failure"]}, "depends_on": arr(S),
    }, [])}}),
    {"services": {"web": {"image": "nginx", "ports": ["80:8080"], "restart": "always"}, "db": {"image": "postgres:16", "environment": {"PORT": 5432, "X": None}}}},
)
real(
    "pipeline of jobs",
    obj({
        "on": {"anyOf": [{"enum": ["push", "pull_request"]}, arr({"enum": ["push", "pull_request"]}, minItems=1)]},
        "jobs": {"type": "object", "minProperties": 1, "maxProperties": 5, "additionalProperties": obj({
            "runs-on": S, "needs": arr(S), "timeout-minutes": {"type": "integer", "minimum": 1, "maximum": 360},
            "steps": arr({"anyOf": [obj({"name": S, "run": S}, ["run"]), obj({"name": S, "uses": {"type": "string", "pattern": "^[\\w-]+/[\\w-]+@v\\d+$"}, "with": {"type": "object"}}, ["uses"])]}, minItems=1),
        }, ["runs-on", "steps"])},
    }),
    {"on": ["push"], "jobs": {"build": {"runs-on": "debian", "timeout-minutes": 30, "steps": [{"uses": "actions/checkout@v4"}, {"name": "b", "run": "make"}]}}},
)
real(
    "logging settings",
    obj({"level": {"enum": ["debug", "info", "warn", "error"], "default": "info"}, "file": null_or(S), "rotate": obj({"max_bytes": {"type": "integer", "minimum": 1024, "maximum": 1073741824, "multipleOf": 1024}, "keep": {"type": "integer", "minimum": 0, "maximum": 99}})}, ["level"]),
    {"level": "warn", "file": None, "rotate": {"max_bytes": 1048576, "keep": 5}},
)

# ---- OpenAPI parts ----

PARAMETER = {
    "type": "object", "required": ["name", "in", "schema"],
    "properties": {
        "name": S, "in": {"enum": ["query", "header", "path", "cookie"]}, "description": S, "required": {"type": "boolean", "default": False}, "deprecated": B,
        "schema": obj({"type": {"enum": ["string", "integer", "number", "boolean"]}, "format": S, "enum": arr({}), "default": {}}, ["type"]),
    },
    "patternProperties": {"^x-": True}, "additionalProperties": False,
}
real("OpenAPI parameter", PARAMETER, {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 10}, "x-note": [1]}, {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}})
real(
    "OpenAPI operation",
    {
        "type": "object", "required": ["responses"], "additionalProperties": False,
        "properties": {
            "operationId": {"type": "string", "pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}, "summary": S, "tags": arr(S), "deprecated": B,
            "parameters": arr(ref("parameter")),
            "requestBody": obj({"required": B, "content": ref("content")}, ["content"]),
            "responses": {"type": "object", "minProperties": 1, "patternProperties": {"^[1-5](?:\\d{2}|XX)$": ref("response")}, "properties": {"default": ref("response")}, "additionalProperties": False},
        },
        "$defs": {
            "parameter": PARAMETER, "response": obj({"description": S, "content": ref("content")}, ["description"]),
            "content": {"type": "object", "propertyNames": {"pattern": "^[a-z]+/[a-z.+*-]+$"}, "additionalProperties": {"type": "object", "properties": {"example": {}}}},
        },
    },
    {"operationId": "getUser", "tags": ["user"], "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}], "responses": {"200": {"description": "ok", "content": {"application/json": {"example": {"id": 1}}}}, "default": {"description": "error"}}},
)
real("OpenAPI page of results", obj({"items": arr(obj({"id": I, "name": S})), "total": {"type": "integer", "minimum": 0}, "limit": {"type": "integer", "minimum": 1, "maximum": 100}, "next": null_or({"type": "string", "format": "uri"})}), {"items": [{"id": 1, "name": "a"}], "total": 1, "limit": 20, "next": None}, {"items": [], "total": 0, "limit": 100, "next": "https://example.com/?page=2"})
real("OpenAPI problem", obj({"type": {"type": "string", "format": "uri-reference"}, "title": S, "status": {"type": "integer", "minimum": 100, "maximum": 599}, "detail": S, "instance": S}, ["title", "status"], None), {"title": "Not found", "status": 404, "trace": "x"})
real("OpenAPI server", obj({"url": S, "variables": {"type": "object", "additionalProperties": obj({"enum": arr(S, minItems=1), "default": S}, ["default"])}}, ["url"]), {"url": "https://{host}/v1", "variables": {"host": {"default": "a", "enum": ["a", "b"]}}})
real("OpenAPI security scheme", {"oneOf": [
    obj({"type": {"const": "apiKey"}, "name": S, "in": {"enum": ["query", "header", "cookie"]}}),
    obj({"type": {"const": "http"}, "scheme": S, "bearerFormat": S}, ["type", "scheme"]),
    obj({"type": {"const": "openIdConnect"}, "openIdConnectUrl": {"type": "string", "format": "uri"}}),
]}, {"type": "http", "scheme": "bearer"}, {"type": "apiKey", "name": "k", "in": "header"})

# ---- GeoJSON ----

POSITION = arr(N, minItems=2, maxItems=3)
LINE = arr(ref("position"), minItems=2)
RING = arr(ref("position"), minItems=4)


def geometry(kind, coordinates):
    return obj({"type": {"const": kind}, "coordinates": coordinates, "bbox": arr(N, minItems=4, maxItems=4)}, ["type", "coordinates"])


GEO_DEFS = {
    "position": POSITION,
    "geometry": {"oneOf": [
        geometry("Point", ref("position")), geometry("MultiPoint", arr(ref("position"))), geometry("LineString", LINE), geometry("MultiLineString", arr(LINE)),
        geometry("Polygon", arr(RING)), geometry("MultiPolygon", arr(arr(RING))), obj({"type": {"const": "GeometryCollection"}, "geometries": arr(ref("geometry"))}),
    ]},
    "feature": obj({"type": {"const": "Feature"}, "id": {"type": ["string", "number"]}, "geometry": null_or(ref("geometry")), "properties": {"type": ["object", "null"]}}, ["type", "geometry", "properties"]),
}
POINT = {"type": "Point", "coordinates": [8.5, 47.25]}
RINGS = [[[0, 0], [1, 0], [1, 1], [0, 0]]]
real("GeoJSON geometry", dict(GEO_DEFS["geometry"], **{"$defs": GEO_DEFS}), POINT, {"type": "Polygon", "coordinates": RINGS}, {"type": "GeometryCollection", "geometries": [POINT, {"type": "LineString", "coordinates": [[1, 2], [3, 4, 5]]}]})
real("GeoJSON feature collection", obj({"type": {"const": "FeatureCollection"}, "features": arr(ref("feature"))}, **{"$defs": GEO_DEFS}), {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": POINT, "properties": {"n": 1}}, {"type": "Feature", "id": 7, "geometry": None, "properties": None}]})

# ---- documents ----

real(
    "JSON feed",
    {
        "type": "object", "required": ["version", "title", "items"],
        "properties": {
            "version": {"const": "https://jsonfeed.org/version/1.1"}, "title": S, "home_page_url": {"type": "string", "format": "uri"}, "language": {"type": "string", "pattern": "^[a-z]{2}(-[A-Z]{2})?$"},
            "authors": arr({"type": "object", "properties": {"name": S, "url": S, "avatar": S}, "minProperties": 1, "additionalProperties": False}),
            "items": arr(obj({"id": S, "url": S, "title": S, "content_text": S, "content_html": S, "date_published": {"type": "string", "format": "date-time"}, "tags": arr(S)}, ["id"], False, anyOf=[{"required": ["content_text"]}, {"required": ["content_html"]}])),
        },
    },
    {"version": "https://jsonfeed.org/version/1.1", "title": "T", "items": [{"id": "1", "content_text": "x", "date_published": "2024-05-01T10:00:00Z"}], "authors": [{"name": "A"}]},
)
real("calendar event", obj({"summary": {"type": "string", "minLength": 1}, "start": {"type": "string", "format": "date-time"}, "end": {"type": "string", "format": "date-time"}, "attendees": arr(obj({"email": {"type": "string", "format": "email"}, "status": {"enum": ["accepted", "declined", "tentative"]}}, ["email"]), maxItems=10), "recurrence": {"anyOf": [obj({"every": {"const": "week"}, "days": arr({"enum": ["mo", "tu", "we", "th", "fr", "sa", "su"]}, minItems=1)}), obj({"every": {"const": "month"}, "day": {"type": "integer", "minimum": 1, "maximum": 31}})]}}, ["summary", "start"]),
     {"summary": "Standup", "start": "2024-05-01T09:00:00+02:00", "recurrence": {"every": "week", "days": ["mo", "we"]}}, {"summary": "Rent", "start": "2024-05-01T00:00:00Z", "attendees": [{"email": "a@b.example", "status": "accepted"}], "recurrence": {"every": "month", "day": 1}})
real("invoice", obj({"number": {"type": "string", "pattern": "^INV-\\d{4,8}$"}, "date": {"type": "string", "format": "date"}, "currency": {"enum": ["EUR", "USD", "CHF"]}, "lines": arr(obj({"text": S, "quantity": {"type": "integer", "exclusiveMinimum": 0}, "price": {"type": "number", "minimum": 0}, "vat": {"type": "number", "enum": [0, 2.5, 7.5]}}, ["text", "quantity", "price"]), minItems=1), "total": {"type": "number", "minimum": 0}, "paid": B, "note": null_or({"type": "string", "maxLength": 40})}, ["number", "date", "lines", "total"]),
     {"number": "INV-00042", "date": "2024-02-29", "currency": "CHF", "lines": [{"text": "Work", "quantity": 3, "price": 120.5, "vat": 7.5}], "total": 361.5, "paid": False, "note": None})
real("recipe", obj({"title": S, "servings": {"type": "integer", "minimum": 1, "maximum": 24}, "minutes": {"type": "integer", "minimum": 1, "multipleOf": 5}, "ingredients": arr(obj({"name": S, "amount": null_or(N), "unit": {"enum": ["g", "ml", "piece", "tbsp", None]}}, ["name"]), minItems=1), "steps": arr({"type": "string", "minLength": 3}, minItems=1, maxItems=12), "vegan": B}, ["title", "ingredients", "steps"]),
     {"title": "Bread", "servings": 4, "minutes": 90, "ingredients": [{"name": "flour", "amount": 500, "unit": "g"}, {"name": "salt", "amount": None, "unit": None}], "steps": ["Mix it", "Bake it"]})
real("resume", obj({"name": S, "email": {"type": "string", "format": "email"}, "skills": arr(obj({"name": S, "level": {"enum": ["beginner", "good", "expert"]}})), "work": arr(obj({"company": S, "from": {"type": "string", "pattern": "^\\d{4}-(0[1-9]|1[0-2])$"}, "to": null_or({"type": "string", "pattern": "^\\d{4}-(0[1-9]|1[0-2])$"})}))}), {"name": "A B", "email": "a@b.example", "skills": [{"name": "C", "level": "expert"}], "work": [{"company": "X", "from": "2020-01", "to": None}]})
real("playlist", obj({"name": S, "tracks": arr({"type": "array", "prefixItems": [S, S, {"type": "integer", "minimum": 0}], "items": False, "minItems": 3})}), {"name": "p", "tracks": [["a", "b", 180], ["c", "d", 0]]})
real("chess move list", arr({"type": "string", "pattern": "^(O-O(-O)?|[KQRBN]?[a-h]?[1-8]?x?[a-h][1-8](=[QRBN])?)[+#]?$"}, maxItems=20), ["e4", "e5", "Nf3", "Nc6", "O-O", "exd8=Q+"])
real("colour", {"anyOf": [{"type": "string", "pattern": "^#[0-9a-fA-F]{6}$"}, {"type": "string", "enum": ["red", "green", "blue"]}, {"type": "array", "prefixItems": [ref("byte"), ref("byte"), ref("byte")], "minItems": 3, "maxItems": 3}], "$defs": {"byte": {"type": "integer", "minimum": 0, "maximum": 255}}}, "#ffAA00", "red", [0, 255, 12])
real("article with sections", {"$ref": "#/$defs/section", "$defs": {"section": obj({"heading": S, "text": S, "sections": arr(ref("section"))}, ["heading"])}}, {"heading": "a", "sections": [{"heading": "b", "text": "t", "sections": []}]})
real("weather report", obj({"place": S, "days": arr(obj({"date": {"type": "string", "format": "date"}, "low": {"type": "number", "minimum": -80, "maximum": 60}, "high": {"type": "number", "minimum": -80, "maximum": 60}, "sky": {"enum": ["sun", "cloud", "rain", "snow"]}, "chance": {"type": "integer", "minimum": 0, "maximum": 100, "multipleOf": 10}}), minItems=1, maxItems=7)}), {"place": "Bern", "days": [{"date": "2024-06-01", "low": 8.5, "high": 21, "sky": "cloud", "chance": 30}]})

# ---- arguments of tools ----

real("tool weather", obj({"location": {"type": "string", "description": "City and country"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}}, ["location"]), {"location": "Paris, France", "unit": "celsius"}, {"location": "Rome"})
real("tool search", obj({"query": {"type": "string", "minLength": 1}, "top_k": {"type": "integer", "minimum": 1, "maximum": 50, "default": 10}, "filters": obj({"lang": {"type": "string", "pattern": "^[a-z]{2}$"}, "after": {"type": "string", "format": "date"}, "domains": arr({"type": "string"}, maxItems=5)}, [])}, ["query"]), {"query": "c11 atomics", "top_k": 5, "filters": {"lang": "en", "domains": ["example.com"]}})
real("tool sql", obj({"statement": {"type": "string", "pattern": "^(SELECT|WITH)\\b"}, "parameters": arr({"type": ["string", "number", "boolean", "null"]}), "limit": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 1001}}, ["statement"]), {"statement": "SELECT 1", "parameters": ["a", 1.5, None, True], "limit": 1000})
real("tool ticket", obj({"title": {"type": "string", "maxLength": 80}, "priority": {"type": "integer", "enum": [1, 2, 3, 4]}, "labels": arr({"enum": ["bug", "feature", "docs"]}), "assignee": null_or({"type": "string", "pattern": "^@[a-z0-9-]{1,20}$"}), "due": {"type": ["string", "null"], "format": "date"}}, ["title", "priority"]), {"title": "It breaks", "priority": 2, "labels": ["bug"], "assignee": "@joe", "due": None})
real("tool email", obj({"to": arr({"type": "string", "format": "email"}, minItems=1), "cc": arr({"type": "string", "format": "email"}), "subject": S, "body": S, "urgent": B}, ["to", "subject", "body"]), {"to": ["a@b.example"], "subject": "s", "body": "line\nline"})
real("tool without arguments", {"type": "object", "properties": {}, "additionalProperties": False}, {})
real("tool with any arguments", {"type": "object"}, {}, {"a": [1, {"b": None}]})
real("tool calculator", obj({"op": {"enum": ["+", "-", "*", "/"]}, "a": N, "b": N}), {"op": "/", "a": 1, "b": 0.5})
real("tool nested expression", {"$ref": "#/$defs/e", "$defs": {"e": {"anyOf": [N, obj({"op": {"enum": ["add", "mul"]}, "args": arr(ref("e"), minItems=2, maxItems=3)}), obj({"var": {"type": "string", "pattern": "^[a-z]$"}})]}}}, {"op": "add", "args": [1, {"op": "mul", "args": [{"var": "x"}, 2]}]}, 5)
real("tool file edit", obj({"path": {"type": "string", "pattern": "^[^/\\u0000][^\\u0000]*$"}, "edits": arr({"oneOf": [obj({"kind": {"const": "insert"}, "line": {"type": "integer", "minimum": 0}, "text": S}), obj({"kind": {"const": "delete"}, "from": {"type": "integer", "minimum": 1}, "to": {"type": "integer", "minimum": 1}})]}, minItems=1)}), {"path": "src/a.c", "edits": [{"kind": "insert", "line": 0, "text": "x\n"}, {"kind": "delete", "from": 1, "to": 2}]})
real("tool timer", obj({"duration": {"type": "string", "format": "duration"}, "at": {"type": "string", "format": "time"}, "id": {"type": "string", "format": "uuid"}}, []), {"duration": "PT5M", "id": "2eb8aa08-aa98-11ea-b4aa-73b441d16380"}, {"at": "10:30:00Z"})
real("tool device", obj({"device": {"enum": ["lamp", "heater"]}, "state": {"oneOf": [B, {"type": "integer", "minimum": 0, "maximum": 100}]}}), {"device": "lamp", "state": True}, {"device": "heater", "state": 45})
real("tool network rule", obj({"source": {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}, {"const": "any"}]}, "port": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string", "pattern": "^\\d{1,5}-\\d{1,5}$"}]}, "action": {"enum": ["allow", "deny"]}}), {"source": "10.0.0.1", "port": 443, "action": "allow"}, {"source": "any", "port": "1000-2000", "action": "deny"})
real("tool booking", obj({"from": {"type": "string", "pattern": "^[A-Z]{3}$"}, "to": {"type": "string", "pattern": "^[A-Z]{3}$"}, "depart": {"type": "string", "format": "date"}, "return": {"type": ["string", "null"], "format": "date"}, "passengers": {"type": "integer", "minimum": 1, "maximum": 9}, "cabin": {"enum": ["economy", "business"]}}, ["from", "to", "depart"]), {"from": "ZRH", "to": "LIS", "depart": "2024-07-01", "return": None, "passengers": 2})

# ---- the style of libraries that make schemas from types ----

real("typed model with definitions", {
    "$defs": {
        "Address": {"properties": {"street": {"title": "Street", "type": "string"}, "zip": {"anyOf": [{"maxLength": 10, "type": "string"}, {"type": "null"}], "default": None, "title": "Zip"}}, "required": ["street"], "title": "Address", "type": "object"},
        "Role": {"enum": ["admin", "user"], "title": "Role", "type": "string"},
    },
    "properties": {"name": {"title": "Name", "type": "string"}, "age": {"anyOf": [{"exclusiveMinimum": 0, "type": "integer"}, {"type": "null"}], "default": None, "title": "Age"}, "role": {"$ref": "#/$defs/Role", "default": "user"}, "addresses": {"items": {"$ref": "#/$defs/Address"}, "title": "Addresses", "type": "array"}, "scores": {"additionalProperties": {"type": "number"}, "title": "Scores", "type": "object"}},
    "required": ["name", "addresses"], "title": "User", "type": "object",
}, {"name": "A", "age": None, "role": "admin", "addresses": [{"street": "x", "zip": None}], "scores": {"m": 1.5}})
real("typed union with discriminator", {
    "$defs": {
        "Cat": {"properties": {"kind": {"const": "cat", "title": "Kind", "type": "string"}, "lives": {"maximum": 9, "minimum": 0, "title": "Lives", "type": "integer"}}, "required": ["kind", "lives"], "title": "Cat", "type": "object"},
        "Dog": {"properties": {"kind": {"const": "dog", "title": "Kind", "type": "string"}, "barks": {"title": "Barks", "type": "boolean"}}, "required": ["kind", "barks"], "title": "Dog", "type": "object"},
    },
    "properties": {"pet": {"discriminator": {"mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"}, "propertyName": "kind"}, "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}], "title": "Pet"}},
    "required": ["pet"], "title": "Owner", "type": "object",
}, {"pet": {"kind": "cat", "lives": 9}}, {"pet": {"kind": "dog", "barks": False}})
real("typed tuple and literal", {"properties": {"pair": {"maxItems": 2, "minItems": 2, "prefixItems": [{"type": "integer"}, {"type": "string"}], "title": "Pair", "type": "array"}, "mode": {"enum": ["r", "w", 1], "title": "Mode"}, "when": {"format": "date-time", "title": "When", "type": "string"}}, "required": ["pair", "mode"], "title": "M", "type": "object", "additionalProperties": False}, {"pair": [1, "a"], "mode": 1}, {"pair": [0, ""], "mode": "r", "when": "2024-01-01T00:00:00Z"})
real("typed tree", {"$defs": {"Node": {"properties": {"value": {"type": "integer"}, "left": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}], "default": None}, "right": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}], "default": None}}, "required": ["value"], "type": "object"}}, "$ref": "#/$defs/Node"}, {"value": 1, "left": {"value": 2, "left": None}, "right": None})
real("strict object output", {"type": "object", "properties": {"steps": {"type": "array", "items": {"type": "object", "properties": {"explanation": S, "output": S}, "required": ["explanation", "output"], "additionalProperties": False}}, "final_answer": S}, "required": ["steps", "final_answer"], "additionalProperties": False}, {"steps": [{"explanation": "e", "output": "o"}], "final_answer": "42"})
real("inferred object output", {"$schema": DRAFT, "type": "object", "properties": {"ok": {"type": "boolean", "const": True}, "items": {"type": "array", "items": {"anyOf": [{"type": "object", "properties": {"type": {"type": "string", "const": "text"}, "text": {"type": "string"}}, "required": ["type", "text"], "additionalProperties": False}, {"type": "object", "properties": {"type": {"type": "string", "const": "image"}, "url": {"type": "string", "format": "uri"}}, "required": ["type", "url"], "additionalProperties": False}]}}, "meta": {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "number"}}, "n": {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991}}, "required": ["ok", "items"], "additionalProperties": False}, {"ok": True, "items": [{"type": "text", "text": "t"}, {"type": "image", "url": "https://e.example/x.png"}], "meta": {"a": 1}, "n": -5})
real("classification", obj({"label": {"type": "string", "enum": ["positive", "negative", "neutral"]}, "confidence": {"type": "number", "minimum": 0, "maximum": 1}}), {"label": "neutral", "confidence": 0.75}, {"label": "positive", "confidence": 1})
real("entities", arr(obj({"text": {"type": "string", "minLength": 1}, "type": {"enum": ["person", "place", "org", "date"]}, "start": {"type": "integer", "minimum": 0}, "end": {"type": "integer", "minimum": 1}}), maxItems=20), [{"text": "Ada", "type": "person", "start": 0, "end": 3}])
real("inherited models", {"allOf": [ref("base"), {"type": "object", "properties": {"title": S, "pages": {"type": "integer", "minimum": 1}}, "required": ["title"]}], "$defs": {"base": {"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}, "created": {"type": "string", "format": "date-time"}}, "required": ["id"]}}}, {"id": "2eb8aa08-aa98-11ea-b4aa-73b441d16380", "title": "T", "pages": 3})
real("one of two contacts", obj({"name": S, "phone": {"type": "string", "pattern": "^\\+?[0-9 ]{5,15}$"}, "email": {"type": "string", "format": "email"}}, ["name"], False, anyOf=[{"required": ["phone"]}, {"required": ["email"]}]), {"name": "A", "phone": "+41 44 123"}, {"name": "B", "email": "b@c.example", "phone": "12345"})
real("answer or refusal", {"anyOf": [obj({"answer": S, "sources": arr({"type": "string", "format": "uri"}, minItems=1)}), obj({"refusal": {"type": "string", "minLength": 1}})]}, {"answer": "a", "sources": ["https://example.com/"]}, {"refusal": "no"})
real("json patch", arr({"oneOf": [obj({"op": {"enum": ["add", "replace", "test"]}, "path": ref("pointer"), "value": {}}, ["op", "path", "value"]), obj({"op": {"const": "remove"}, "path": ref("pointer")}), obj({"op": {"enum": ["move", "copy"]}, "from": ref("pointer"), "path": ref("pointer")})]}, **{"$defs": {"pointer": {"type": "string", "format": "json-pointer"}}}), [{"op": "add", "path": "/a/0", "value": {"x": [1]}}, {"op": "remove", "path": ""}, {"op": "move", "from": "/a", "path": "/b"}])
real("map of counts", {"type": "object", "minProperties": 1, "maxProperties": 3, "additionalProperties": {"type": "integer", "minimum": 0}}, {"a": 1, "b": 0})
real("sudoku row", arr({"type": "integer", "minimum": 1, "maximum": 9}, minItems=9, maxItems=9), [1, 2, 3, 4, 5, 6, 7, 8, 9])
real("menu", {"type": "object", "patternProperties": {"^[A-Z][a-z]+$": arr(obj({"dish": S, "price": {"type": "number", "exclusiveMinimum": 0, "maximum": 100, "multipleOf": 0.5}}))}, "additionalProperties": False}, {"Soups": [{"dish": "s", "price": 7.5}], "Mains": []})
real("at least one contact among items", {"type": "array", "items": {"type": "string"}, "contains": {"const": "email"}, "maxItems": 4}, ["email"], ["phone", "email"])
