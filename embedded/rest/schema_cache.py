"""What the REST service knows of the database: tables, foreign keys, functions. Read whole, replaced whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from embedded.rest.safe_update import StatementGuard, StoredCode

#: The schemas that the API shows, the default one first, as in a hosted project.
EXPOSED_SCHEMAS = ("public", "graphql_public")


class TableName(NamedTuple):
    schema: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    name: str
    type: str  #: as SQL, with its length or precision
    default: str | None  #: an SQL expression; None: null


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    name: TableName
    columns: dict[str, Column]
    primary_key: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    name: str
    table: TableName
    columns: tuple[str, ...]
    target: TableName
    target_columns: tuple[str, ...]
    is_unique: bool  #: its columns are unique in `table`, so that the relationship is one to one


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    name: str  #: empty: it has none
    type: str
    is_required: bool
    is_variadic: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    oid: int
    schema: str
    name: str
    parameters: tuple[Parameter, ...]
    volatility: Literal["immutable", "stable", "volatile"]
    returns: Literal["void", "scalar", "row"]
    returns_set: bool
    row_table: TableName | None  #: the table whose row type comes back, which can embed others

    @property
    def signature(self) -> str:
        parameters = ", ".join(f"{parameter.name} => {parameter.type}" for parameter in self.parameters)
        return f"{self.schema}.{self.name}({parameters})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaCache:
    tables: dict[TableName, Table]
    foreign_keys: tuple[ForeignKey, ...]
    functions: dict[tuple[str, str], list[Function]]
    guard: StatementGuard


async def load_schema_cache(connection: AsyncConnection[Any]) -> SchemaCache:
    async with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        # With an empty search path every type outside pg_catalog is written with its schema.
        await cursor.execute("set local search_path = ''")
        tables = [_table(row) for row in await (await cursor.execute(_TABLES)).fetchall()]
        foreign_keys = [_foreign_key(row) for row in await (await cursor.execute(_FOREIGN_KEYS)).fetchall()]
        functions: dict[tuple[str, str], list[Function]] = {}
        for row in await (await cursor.execute(_FUNCTIONS)).fetchall():
            functions.setdefault((row["schema"], row["name"]), []).append(_function(row))
        stored_code = [StoredCode(**row) for row in await (await cursor.execute(_STORED_CODE)).fetchall()]
        triggers = await (await cursor.execute(_TRIGGERS)).fetchall()
    return SchemaCache(
        tables={table.name: table for table in tables},
        foreign_keys=tuple(foreign_keys),
        functions=functions,
        guard=StatementGuard(
            stored_code, [(row["table_schema"], row["table_name"], row["function"]) for row in triggers]
        ),
    )


def _table(row: dict[str, Any]) -> Table:
    columns = [Column(**column) for column in row["columns"]]
    return Table(
        name=TableName(row["schema"], row["name"]),
        columns={column.name: column for column in columns},
        primary_key=tuple(row["primary_key"]),
    )


def _foreign_key(row: dict[str, Any]) -> ForeignKey:
    return ForeignKey(
        name=row["name"],
        table=TableName(row["table_schema"], row["table_name"]),
        columns=tuple(row["columns"]),
        target=TableName(row["target_schema"], row["target_name"]),
        target_columns=tuple(row["target_columns"]),
        is_unique=row["is_unique"],
    )


def _function(row: dict[str, Any]) -> Function:
    first_default = len(row["parameters"]) - row["default_count"]
    return Function(
        oid=row["oid"],
        schema=row["schema"],
        name=row["name"],
        parameters=tuple(
            Parameter(
                name=parameter["name"] or "",
                type=parameter["type"],
                is_variadic=parameter["mode"] == "v",
                is_required=index < first_default and parameter["mode"] != "v",
            )
            for index, parameter in enumerate(row["parameters"])
        ),
        volatility={"i": "immutable", "s": "stable", "v": "volatile"}[row["volatility"]],  # type: ignore[arg-type]
        returns="void" if row["is_void"] else "row" if row["is_row"] else "scalar",
        returns_set=row["returns_set"],
        row_table=TableName(row["row_schema"], row["row_table"]) if row["row_table"] else None,
    )


_TABLES = """
select
  namespaces.nspname as schema,
  tables.relname as name,
  coalesce((
    select json_agg(json_build_object(
      'name', columns.attname,
      'type', format_type(columns.atttypid, columns.atttypmod),
      'default', case
        -- Looking the sequence up by name fails in a schema that the API's role may not use.
        when columns.attidentity <> '' and has_schema_privilege(namespaces.oid, 'usage') then
          format('nextval(%L)', pg_get_serial_sequence(tables.oid::regclass::text, columns.attname))
        when columns.attgenerated = '' then pg_get_expr(defaults.adbin, defaults.adrelid)
      end
    ) order by columns.attnum)
    from pg_catalog.pg_attribute columns
    left join pg_catalog.pg_attrdef defaults
      on defaults.adrelid = columns.attrelid and defaults.adnum = columns.attnum
    where columns.attrelid = tables.oid and columns.attnum > 0 and not columns.attisdropped
  ), '[]') as columns,
  array(
    select columns.attname::text
    from pg_catalog.pg_index indexes
    cross join unnest(indexes.indkey::int2[]) with ordinality keys (number, position)
    join pg_catalog.pg_attribute columns
      on columns.attrelid = tables.oid and columns.attnum = keys.number
    where indexes.indrelid = tables.oid and indexes.indisprimary
    order by keys.position
  ) as primary_key
from pg_catalog.pg_class tables
join pg_catalog.pg_namespace namespaces on namespaces.oid = tables.relnamespace
where tables.relkind in ('r', 'v', 'm', 'p', 'f')
  and namespaces.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
"""

_FOREIGN_KEYS = """
select
  constraints.conname as name,
  source_schemas.nspname as table_schema,
  sources.relname as table_name,
  target_schemas.nspname as target_schema,
  targets.relname as target_name,
  array(
    select columns.attname::text
    from unnest(constraints.conkey) with ordinality keys (number, position)
    join pg_catalog.pg_attribute columns
      on columns.attrelid = constraints.conrelid and columns.attnum = keys.number
    order by keys.position
  ) as columns,
  array(
    select columns.attname::text
    from unnest(constraints.confkey) with ordinality keys (number, position)
    join pg_catalog.pg_attribute columns
      on columns.attrelid = constraints.confrelid and columns.attnum = keys.number
    order by keys.position
  ) as target_columns,
  exists (
    select from pg_catalog.pg_index indexes
    where indexes.indrelid = constraints.conrelid and indexes.indisunique and indexes.indpred is null
      and indexes.indexprs is null
      and (select array_agg(number order by number) from unnest(indexes.indkey::int2[]) number)
        = (select array_agg(number order by number) from unnest(constraints.conkey) number)
  ) as is_unique
from pg_catalog.pg_constraint constraints
join pg_catalog.pg_class sources on sources.oid = constraints.conrelid
join pg_catalog.pg_namespace source_schemas on source_schemas.oid = sources.relnamespace
join pg_catalog.pg_class targets on targets.oid = constraints.confrelid
join pg_catalog.pg_namespace target_schemas on target_schemas.oid = targets.relnamespace
where constraints.contype = 'f' and constraints.conparentid = 0
order by constraints.conname
"""

_FUNCTIONS = """
select
  functions.oid::bigint as oid,
  namespaces.nspname as schema,
  functions.proname as name,
  functions.provolatile::text as volatility,
  functions.proretset as returns_set,
  functions.prorettype = 'pg_catalog.void'::regtype as is_void,
  (
    types.typtype = 'c' or functions.prorettype = 'pg_catalog.record'::regtype
    or coalesce(functions.proargmodes::text[] && '{t,b,o}', false)
  ) as is_row,
  row_schemas.nspname as row_schema,
  row_tables.relname as row_table,
  functions.pronargdefaults as default_count,
  coalesce((
    select json_agg(json_build_object(
      'name', functions.proargnames[arguments.position],
      -- format_type() calls bpchar "character", which as a type name means character(1).
      'type', case arguments.type when 'pg_catalog.bpchar'::regtype then 'bpchar'
        else format_type(arguments.type, null) end,
      'mode', coalesce(functions.proargmodes[arguments.position]::text, 'i')
    ) order by arguments.position)
    from unnest(coalesce(functions.proallargtypes, functions.proargtypes::oid[]))
      with ordinality arguments (type, position)
    where coalesce(functions.proargmodes[arguments.position]::text, 'i') in ('i', 'b', 'v')
  ), '[]') as parameters
from pg_catalog.pg_proc functions
join pg_catalog.pg_namespace namespaces on namespaces.oid = functions.pronamespace
join pg_catalog.pg_type types on types.oid = functions.prorettype
left join pg_catalog.pg_class row_tables
  on row_tables.oid = types.typrelid and row_tables.relkind in ('r', 'v', 'm', 'p', 'f')
left join pg_catalog.pg_namespace row_schemas on row_schemas.oid = row_tables.relnamespace
where functions.prokind = 'f'
  and functions.prorettype not in ('pg_catalog.trigger'::regtype, 'pg_catalog.event_trigger'::regtype)
  and namespaces.nspname not in ('pg_catalog', 'information_schema')
"""

_STORED_CODE = """
select
  functions.oid::bigint as oid,
  namespaces.nspname as schema,
  functions.proname as name,
  coalesce(pg_get_function_sqlbody(functions.oid), functions.prosrc) as source
from pg_catalog.pg_proc functions
join pg_catalog.pg_namespace namespaces on namespaces.oid = functions.pronamespace
join pg_catalog.pg_language languages on languages.oid = functions.prolang
where languages.lanname in ('sql', 'plpgsql')
  and namespaces.nspname not in ('pg_catalog', 'information_schema')
"""

_TRIGGERS = """
select namespaces.nspname as table_schema, tables.relname as table_name, triggers.tgfoid::bigint as function
from pg_catalog.pg_trigger triggers
join pg_catalog.pg_class tables on tables.oid = triggers.tgrelid
join pg_catalog.pg_namespace namespaces on namespaces.oid = tables.relnamespace
where not triggers.tgisinternal and triggers.tgenabled <> 'D'
"""
