"""Arguments for a tool call, made up from the tool's JSON schema; the same dice make the same arguments."""

from __future__ import annotations

from collections.abc import Mapping

from deploy.scripted_model.dice import Dice

_MAX_DEPTH = 6
_MAX_ITEMS = 8
_WORDS = ("alder", "basin", "current", "delta", "estuary", "ferry", "gravel", "harbour", "inlet", "jetty")
_PLACES = ("Ribe", "Ghent", "Porto", "Bergen", "Utrecht", "Whitby", "Kinsale", "Trieste")
_FORMATS = {
    "date": "2031-03-14",
    "date-time": "2031-03-14T06:15:00Z",
    "time": "06:15:00Z",
    "email": "miller@example.org",
    "uri": "https://example.org/mill",
    "uuid": "6f1c2a34-9b1e-4c52-8d0a-2f5e7b90c1d3",
    "ipv4": "192.0.2.17",
}
Schema = Mapping[str, object]


def make_value(schema: Schema, dice: Dice, name: str = "") -> object:
    """Return a value that fits `schema`; properties that are not required are left out."""
    return _Maker(schema, dice).value(schema, name, 0)


class _Maker:
    def __init__(self, root: Schema, dice: Dice) -> None:
        self.root = root
        self.dice = dice

    def value(self, schema: Schema, name: str, depth: int) -> object:
        if depth > _MAX_DEPTH:  # recursive schemas need not end by themselves
            return None
        if "const" in schema:
            return schema["const"]
        options = schema.get("enum")
        if isinstance(options, list) and options:
            return self.dice.pick(options)
        inner = self._inner(schema)
        if inner is not None:
            return self.value(inner, name, depth + 1)
        return self._by_type(schema, name, depth)

    def _inner(self, schema: Schema) -> Schema | None:
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/"):
            return self._resolve(reference)
        for word in ("anyOf", "oneOf", "allOf"):
            choices = schema.get(word)
            if isinstance(choices, list) and choices and isinstance(choices[0], dict):
                return choices[0]
        return None

    def _resolve(self, reference: str) -> Schema:
        found: object = self.root
        for step in reference[2:].split("/"):
            found = found.get(step) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}

    def _by_type(self, schema: Schema, name: str, depth: int) -> object:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((each for each in kind if each != "null"), "null")
        match kind or ("object" if "properties" in schema else "string"):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer":
                return self._integer(schema)
            case "number":
                return self._integer(schema) + 0.5 if "maximum" not in schema else float(self._integer(schema))
            case "boolean":
                return self.dice.chance(50)
            case "null":
                return None
            case _:
                return self._string(schema, name)

    def _object(self, schema: Schema, depth: int) -> dict[str, object]:
        properties = schema.get("properties")
        required = schema.get("required")
        if not isinstance(properties, Mapping):
            return {}
        names = required if isinstance(required, list) else list(properties)[:1]
        wanted = [name for name in names if isinstance(name, str)]
        return {name: self.value(_mapping(properties.get(name)), name, depth + 1) for name in wanted}

    def _array(self, schema: Schema, name: str, depth: int) -> list[object]:
        low = _number(schema, "minItems", 1)
        high = max(_number(schema, "maxItems", 2), low)
        length = min(low + self.dice.roll(high - low + 1), _MAX_ITEMS)
        return [self.value(_mapping(schema.get("items")), name, depth + 1) for _ in range(length)]

    def _integer(self, schema: Schema) -> int:
        low = _number(schema, "minimum", 1)
        high = max(_number(schema, "maximum", low + 40), low)
        step = max(_number(schema, "multipleOf", 1), 1)
        first = -(-low // step) * step
        return first + step * self.dice.roll(max((high - first) // step, 0) + 1)

    def _string(self, schema: Schema, name: str) -> str:
        form = schema.get("format")
        if isinstance(form, str) and form in _FORMATS:
            return _FORMATS[form]
        places = any(word in name.lower() for word in ("city", "place", "location", "town", "port"))
        word = self.dice.pick(_PLACES if places else _WORDS)
        return word.ljust(_number(schema, "minLength", 0), "a")[: _number(schema, "maxLength", 1_000)]


def _mapping(value: object) -> Schema:
    return value if isinstance(value, Mapping) else {}


def _number(schema: Schema, word: str, default: int) -> int:
    value = schema.get(word)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e9:
        return default
    return int(value)
