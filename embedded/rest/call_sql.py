"""Calls of functions: which of the overloaded ones is meant, and the call as SQL."""

# ruff: noqa: S608  every name goes through identifier(), every value through Parameters.bind()

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Literal

from embedded.rest.errors import RestError
from embedded.rest.schema_cache import Function, Parameter, SchemaCache
from embedded.rest.sql import Parameters, identifier, identifiers


def find_function(
    cache: SchemaCache, schema: str, name: str, argument_names: Sequence[str], *, has_json_body: bool
) -> Function:
    """The one function that takes these arguments, or else one that takes the whole body as its only one.

    Raises:
        RestError: PGRST202 when there is none, PGRST203 when there are several.
    """
    overloads = cache.functions.get((schema, name), [])
    matching = [function for function in overloads if _takes(function, set(argument_names))]
    if not matching and has_json_body:
        matching = [function for function in overloads if takes_whole_body(function)]
    if not matching:
        raise _none_found(cache, schema, name, sorted(argument_names), has_json_body=has_json_body)
    if len(matching) > 1:
        raise RestError(
            300,
            "PGRST203",
            "Could not choose the best candidate function between: "
            + ", ".join(function.signature for function in matching),
            hint="Try renaming the parameters or the function itself in the database so function overloading "
            "can be resolved",
        )
    return matching[0]


def takes_whole_body(function: Function) -> bool:
    """Whether its one parameter is JSON without a name."""
    return (
        len(function.parameters) == 1
        and not function.parameters[0].name
        and function.parameters[0].type in ("json", "jsonb")
    )


def call_with_body(function: Function, body: str, argument_names: Sequence[str], parameters: Parameters) -> str:
    """A call by POST, whose arguments are the keys of a JSON object or the body as a whole."""
    if takes_whole_body(function):
        argument = f"{parameters.bind(body)}::{function.parameters[0].type}"
        return _select(function, argument, "", "")
    given = [parameter for parameter in function.parameters if parameter.name in argument_names]
    if not given:
        return _select(function, "", "", "")
    types = ", ".join(f"{identifier(parameter.name)} {_type(parameter)}" for parameter in given)
    names = identifiers([parameter.name for parameter in given])
    source = (
        f"(select {parameters.bind(body)}::json as document) pgrst_payload, "
        f"lateral (select {names} from json_to_record(pgrst_payload.document) as _({types})) pgrst_body, "
    )
    arguments = ", ".join(_named(parameter, f"pgrst_body.{identifier(parameter.name)}") for parameter in given)
    return _select(function, arguments, source, "lateral ")


def call_with_arguments(function: Function, arguments: Sequence[tuple[str, str]], parameters: Parameters) -> str:
    """A call by GET, whose arguments are texts; a variadic one may come several times."""
    values: Mapping[str, list[str]] = {name: [] for name, _ in arguments}
    for name, value in arguments:
        values[name].append(value)
    parts = []
    for parameter in function.parameters:
        if parameter.name not in values:
            continue
        if parameter.is_variadic:
            items = ", ".join(parameters.bind(value) for value in values[parameter.name])
            parts.append(_named(parameter, f"array[{items}]::{_type(parameter)}"))
        else:
            value = values[parameter.name][-1]
            parts.append(_named(parameter, f"{parameters.bind(value)}::{_type(parameter)}"))
    return _select(function, ", ".join(parts), "", "")


def _select(function: Function, arguments: str, source: str, lateral: Literal["", "lateral "]) -> str:
    call = f"{identifier(function.schema)}.{identifier(function.name)}({arguments})"
    if function.returns == "row":
        return f"select pgrst_call.* from {source}{lateral}{call} pgrst_call"
    return f"select pgrst_call.pgrst_scalar from {source}{lateral}(select {call} as pgrst_scalar) pgrst_call"


def _named(parameter: Parameter, value: str) -> str:
    return f"{'variadic ' if parameter.is_variadic else ''}{identifier(parameter.name)} := {value}"


def _type(parameter: Parameter) -> str:
    return parameter.type.replace("%", "%%")


def _takes(function: Function, given: set[str]) -> bool:
    required = {parameter.name for parameter in function.parameters if parameter.is_required}
    known = {parameter.name for parameter in function.parameters}
    return "" not in known and required <= given <= known


def _none_found(cache: SchemaCache, schema: str, name: str, arguments: list[str], *, has_json_body: bool) -> RestError:
    listed = ", ".join(arguments)
    described = f" with parameter{'s' if len(arguments) > 1 else ''} {listed}" if arguments else " without parameters"
    if has_json_body and arguments:
        described += " or with a single unnamed json/jsonb parameter"
    return RestError(
        404,
        "PGRST202",
        f"Could not find the function {schema}.{name}{f'({listed})' if arguments else ' without parameters'} "
        "in the schema cache",
        details=f"Searched for the function {schema}.{name}{described}, but no matches were found in the schema cache.",
        hint=_suggestion(cache, schema, name, arguments),
    )


def _suggestion(cache: SchemaCache, schema: str, name: str, arguments: list[str]) -> str | None:
    prefix = f"Perhaps you meant to call the function {schema}."
    if overloads := cache.functions.get((schema, name)):
        choices = [", ".join(sorted(parameter.name for parameter in one.parameters)) for one in overloads]
        close = difflib.get_close_matches(", ".join(arguments), choices, n=1, cutoff=0.33)
        return f"{prefix}{name}({close[0]})" if close else None
    names = [known for known_schema, known in cache.functions if known_schema == schema]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    return f"{prefix}{close[0]}" if close else None
