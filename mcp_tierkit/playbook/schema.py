"""The part of JSON Schema that a contract may use, compiled to pydantic-core validators (Rust regex, linear time)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic_core import CoreSchema, SchemaError, SchemaValidator, ValidationError, core_schema

from mcp_tierkit.errors import InvalidInput
from mcp_tierkit.playbook.formats import FORMATS, QUOTE, of_format
from mcp_tierkit.playbook.quotes import Sources

MAX_DEPTH = 6
MAX_BYTES = 256 * 1024
MAX_NESTED = 64
"""Objects and lists within one another, in a value: what writes it down and filters it goes down as deep."""

_COMMON = frozenset({"type", "description", "title", "default", "examples", "enum", "const"})
_OWN = {
    "string": frozenset({"pattern", "format", "minLength", "maxLength"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}),
    "boolean": frozenset[str](),
    "array": frozenset({"items", "minItems", "maxItems", "uniqueItems"}),
    "object": frozenset({"properties", "required", "additionalProperties"}),
}
_BOUNDS = {
    "minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt", "multipleOf": "multiple_of",
}  # fmt: skip
_SIZES = {
    "minLength": "min_length", "maxLength": "max_length", "minItems": "min_length", "maxItems": "max_length",
}  # fmt: skip
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class BadSchema(ValueError):
    """A contract's schema cannot be used; the text says where and why."""


class Fields:
    """A set of named values, as `inputs` or `outputs` of a contract declare it."""

    def __init__(self, properties: Mapping[str, Any], *, outputs: bool = False) -> None:
        """Raises BadSchema. Of outputs, all are required and others are refused; inputs may have defaults.

        Outputs alone may be null (`type = ["string", "null"]`), and hold texts of the format `quote`.
        """
        self.properties = {name: _property(name, schema) for name, schema in properties.items()}
        self._unknown = "is not in the schema" if outputs else "is not an input this playbook knows"
        fields: dict[str, core_schema.TypedDictField] = {}
        for name, schema in self.properties.items():
            inner = _build(schema, name, 0)
            if not outputs:
                _refuse_in_input(name, schema)
            if "default" in schema and not outputs:
                _check_default(name, schema["default"], inner)
                inner = core_schema.with_default_schema(inner, default=schema["default"])
            required = outputs or "default" not in schema
            fields[name] = core_schema.typed_dict_field(inner, required=required)
        self._validator = _validator("properties", core_schema.typed_dict_schema(fields, extra_behavior="forbid"))

    @property
    def paths(self) -> tuple[str, ...]:
        """The fields that hold project paths."""
        return tuple(name for name, schema in self.properties.items() if _holds_path(schema))

    def paths_in(self, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Each project path among checked values, behind the name of its field."""
        for name in self.paths:
            value = values.get(name, [])
            yield from ((name, path) for path in (value if isinstance(value, list) else [value]))

    @property
    def names(self) -> tuple[str, ...]:
        """The fields in order, those that may be left out with a question mark."""
        return tuple(f"{name}?" if "default" in schema else name for name, schema in self.properties.items())

    @property
    def signature(self) -> str:
        """Each field with what it takes: `from_ref (git-ref), limit? (integer)`."""
        parts = [
            f"{name} ({_takes(schema)})" for name, schema in zip(self.names, self.properties.values(), strict=True)
        ]
        return ", ".join(parts)

    @property
    def holds_quotes(self) -> bool:
        """Whether a field, at any depth, is of the format `quote`, so that `check` wants documents."""
        return any(part.get("format") == QUOTE for schema in self.properties.values() for part in _parts(schema))

    @property
    def schema(self) -> dict[str, Any]:
        """All of it as one JSON Schema of an object that has every field and no other."""
        return {
            "type": "object", "properties": self.properties, "required": list(self.properties),
            "additionalProperties": False,
        }  # fmt: skip

    def check(self, values: object, *, sources: Iterable[str] = ()) -> dict[str, Any]:
        """The values with defaults filled in; ValueError that names the field and the rule.

        A text of the format `quote` must stand in one of `sources`: see quotes.is_quoted.
        """
        try:
            checked: dict[str, Any] = self._validator.validate_python(values, context=Sources(sources))
            size = len(json.dumps(checked, allow_nan=False, ensure_ascii=False).encode())
            if _depth(checked) > MAX_NESTED:
                raise RecursionError
        except ValidationError as error:
            raise ValueError(_explain(error, self._unknown)) from None
        except RecursionError:
            raise ValueError("all fields: are nested too deeply") from None
        except UnicodeEncodeError:
            raise ValueError("all fields: hold text that is not Unicode") from None
        except ValueError:
            raise ValueError("all fields: hold a number that JSON has no form for") from None
        if size > MAX_BYTES:
            raise ValueError(f"all fields: are larger than {MAX_BYTES // 1024} KB together")
        return checked

    def from_text(self, name: str, text: str) -> Any:
        """The value that `text` stands for in that field: text itself, or JSON for the other types."""
        schema = self.properties.get(name)
        if schema is None or schema["type"] == "string":
            return text
        try:
            return strict_json(text.encode())
        except ValueError:
            return text  # The validator then says what the field must be.


def invalid_input(fault: str) -> InvalidInput:
    """The refusal of an argument, begun by its code as the format page asks."""
    return InvalidInput(
        f"invalid_input: {fault}. Nothing was run and nothing was spent.",
        next_step="Correct that field and call again.",
    )


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads: an object that names a key twice is refused."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is named twice")
    return found


def strict_json(data: bytes) -> Any:
    """JSON without NaN, infinities or repeated keys; ValueError otherwise, RecursionError included."""
    try:
        return json.loads(data.decode(), parse_constant=_no_constant, object_pairs_hook=_unique_pairs)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _property(name: str, schema: object) -> dict[str, Any]:
    if not _FIELD.fullmatch(name):
        raise BadSchema(f"{name!r} is not a usable field name")
    if not isinstance(schema, dict):
        raise BadSchema(f"{name} must be a table")
    return schema


def _build(schema: dict[str, Any], where: str, depth: int) -> CoreSchema:
    kind, may_be_null = _kind(schema)
    if kind not in _OWN:
        raise BadSchema(f"{where}.type must be one of {', '.join(_OWN)}")
    if unknown := sorted(schema.keys() - _COMMON - _OWN[kind]):
        raise BadSchema(f"{where} has the unsupported keyword {unknown[0]!r}")
    if depth > MAX_DEPTH:
        raise BadSchema(f"{where} is nested too deeply")
    _check_keywords(schema, where)
    built = _BUILDERS[kind](schema, where, depth)
    built = core_schema.nullable_schema(built) if may_be_null else built
    if "enum" in schema or "const" in schema:
        built = _only(built, [schema["const"]] if "const" in schema else schema["enum"])
    _validator(where, built)
    return built


def _kind(schema: dict[str, Any]) -> tuple[str, bool]:
    """The type's name, and whether null is allowed beside it."""
    kind = schema.get("type")
    if isinstance(kind, list) and len(kind) == 2 and kind[1] == "null":
        return str(kind[0]), True
    return str(kind), False


def _parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema that was built, and every one inside it."""
    yield schema
    inner = [schema["items"]] if "items" in schema else schema.get("properties", {}).values()
    for one in inner:
        yield from _parts(one)


def _refuse_in_input(name: str, schema: dict[str, Any]) -> None:
    for part in _parts(schema):
        if part.get("format") == QUOTE:
            raise BadSchema(f"{name}: only an output can be a quote")
        if _kind(part)[1]:
            raise BadSchema(f"{name}: only an output can be null; give the input a default")


def _check_keywords(schema: dict[str, Any], where: str) -> None:
    for key in _SIZES.keys() & schema.keys():
        if type(schema[key]) is not int or schema[key] < 0:
            raise BadSchema(f"{where}.{key} must be a whole number, 0 or more")
    for key in _BOUNDS.keys() & schema.keys():
        if type(schema[key]) not in (int, float):
            raise BadSchema(f"{where}.{key} must be a number")
    if "multipleOf" in schema and schema["multipleOf"] <= 0:
        raise BadSchema(f"{where}.multipleOf must be above 0")
    for key in {"description", "title", "pattern"} & schema.keys():
        if not isinstance(schema[key], str):
            raise BadSchema(f"{where}.{key} must be text")
    if "enum" in schema and (not isinstance(schema["enum"], list) or not schema["enum"]):
        raise BadSchema(f"{where}.enum must be a list with a value in it")


def _string(schema: dict[str, Any], where: str, depth: int) -> CoreSchema:
    built: CoreSchema = core_schema.str_schema(
        strict=True, pattern=schema.get("pattern"), regex_engine="rust-regex",
        min_length=schema.get("minLength"), max_length=schema.get("maxLength"),
    )  # fmt: skip
    if "format" not in schema:
        return built
    if schema["format"] not in FORMATS:
        raise BadSchema(f"{where}.format must be one of {', '.join(FORMATS)}")
    return of_format(schema["format"], built)


def _integer(schema: dict[str, Any], where: str, depth: int) -> CoreSchema:
    return core_schema.int_schema(strict=True, **_bounds(schema))


def _number(schema: dict[str, Any], where: str, depth: int) -> CoreSchema:
    # A whole number stays one: a float schema alone would turn 3 into 3.0.
    bounds = _bounds(schema)
    as_float = core_schema.float_schema(strict=True, allow_inf_nan=False, **bounds)
    return core_schema.no_info_wrap_validator_function(lambda value, check: (check(value), value)[1], as_float)


def _boolean(schema: dict[str, Any], where: str, depth: int) -> CoreSchema:
    return core_schema.bool_schema(strict=True)


def _array(schema: dict[str, Any], where: str, depth: int) -> CoreSchema:
    if not isinstance(schema.get("items"), dict):
        raise BadSchema(f"{where}.items must be a table")
    built: CoreSchema = core_schema.list_schema(
        _build(schema["items"], f"{where}.items", depth + 1), strict=True,
        min_length=schema.get("minItems"), max_length=schema.get("maxItems"),
    )  # fmt: skip
    return core_schema.no_info_after_validator_function(_unique, built) if schema.get("uniqueItems") else built


def _object(schema: dict[str, Any], where: str, depth: int) -> CoreSchema:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        raise BadSchema(f"{where}.properties must be a table and {where}.required a list")
    if missing := [name for name in required if name not in properties]:
        raise BadSchema(f"{where}.required names {missing[0]!r}, which has no property")
    if not isinstance(schema.get("additionalProperties", True), bool):
        raise BadSchema(f"{where}.additionalProperties must be true or false")
    fields = {
        name: core_schema.typed_dict_field(
            _build(_property(name, inner), f"{where}.{name}", depth + 1), required=name in required
        )
        for name, inner in properties.items()
    }
    extra = "allow" if schema.get("additionalProperties", True) else "forbid"
    return core_schema.typed_dict_schema(fields, strict=True, extra_behavior=extra)  # type: ignore[arg-type]


def _bounds(schema: dict[str, Any]) -> dict[str, Any]:
    return {_BOUNDS[key]: schema[key] for key in _BOUNDS.keys() & schema.keys()}


def _only(built: CoreSchema, allowed: list[Any]) -> CoreSchema:
    shown = ", ".join(json.dumps(value) for value in allowed)

    def check(value: Any) -> Any:
        if not any(type(value) is type(one) and value == one for one in allowed):
            raise ValueError(f"must be one of {shown[:200]}")
        return value

    return core_schema.no_info_after_validator_function(check, built)


def _unique(values: list[Any]) -> list[Any]:
    if len({json.dumps(value, sort_keys=True) for value in values}) != len(values):
        raise ValueError("must not hold a value twice")
    return values


def _check_default(name: str, default: object, built: CoreSchema) -> None:
    try:
        SchemaValidator(built).validate_python(default)
    except ValidationError as error:
        raise BadSchema(f"{name}.default does not fit its own schema: {_explain(error, 'is unknown')}") from None


def _validator(where: str, built: CoreSchema) -> SchemaValidator:
    try:
        return SchemaValidator(built)
    except (SchemaError, OverflowError, TypeError) as error:
        raise BadSchema(f"{where}: {' '.join(str(error).split())[:200]}") from None


def _holds_path(schema: dict[str, Any]) -> bool:
    inner = schema.get("items", {}) if schema["type"] == "array" else schema
    return isinstance(inner, dict) and inner.get("format") == "project-path"


def _depth(value: object) -> int:
    """How many objects and lists stand within one another, counted no further than matters."""
    level: list[object] = [value]
    for depth in range(MAX_NESTED + 1):
        level = [part for one in level for part in _parts_of(one)]
        if not level:
            return depth
    return MAX_NESTED + 1


def _parts_of(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _takes(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return "|".join(str(value)[:40] for value in schema["enum"][:8])
    return str(schema.get("format") or schema.get("pattern") or schema["type"])[:60]


def _explain(error: ValidationError, unknown: str) -> str:
    """The first three faults; a field that is not known first, for it may be a missing one's name mistaken."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    ranked = sorted(found, key=lambda fault: fault["type"] != "extra_forbidden")
    return "; ".join(_fault(dict(fault), unknown) for fault in ranked[:3])


def _fault(first: dict[str, Any], unknown: str) -> str:
    field = ".".join(str(part)[:64] for part in first["loc"]) or "all fields"
    said = first["msg"].removeprefix("Value error, ")
    rule = {"extra_forbidden": unknown, "missing": "is required"}.get(first["type"], said)
    return f"{ascii(field)[1:-1]}: {rule[:1].lower()}{rule[1:]}"


_BUILDERS: dict[str, Callable[[dict[str, Any], str, int], CoreSchema]] = {
    "string": _string, "integer": _integer, "number": _number, "boolean": _boolean, "array": _array, "object": _object,
}  # fmt: skip
