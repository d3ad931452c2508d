-- Schema "storage" as a hosted Supabase project has it: tables, guards and the functions that policies call.
-- Run as supabase_admin; can be run again.
-- Source: github.com/supabase/storage, migrations/tenant (read 2026-11-20).

-- Whoever creates something below owns it, and its owner must be Storage's own role.
set role supabase_storage_admin;

create table if not exists storage.buckets (
  id text primary key,
  name text not null constraint bname unique,
  owner uuid,  -- superseded by owner_id, still filled when the caller's id is a uuid
  owner_id text,
  public boolean not null default false,
  avif_autodetection boolean default false,
  file_size_limit bigint,  -- bytes; null: only the limit of the whole project
  allowed_mime_types text[],  -- null or empty: every type
  type text not null default 'STANDARD',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint buckets_name_length check (length(name) <= 100)
);
comment on table storage.buckets is 'Containers of objects; a public one is readable by everybody without a token.';

create table if not exists storage.objects (
  id uuid primary key default gen_random_uuid(),
  bucket_id text constraint "objects_bucketId_fkey" references storage.buckets (id),
  name text,
  owner uuid,
  owner_id text,
  metadata jsonb,  -- what Storage knows: eTag, size, mimetype, cacheControl, lastModified
  user_metadata jsonb,  -- what the uploader said
  version text,  -- names the file that holds the bytes; a new one for every upload
  path_tokens text[] generated always as (string_to_array(name, '/')) stored,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  last_accessed_at timestamptz not null default now()
);
comment on table storage.objects is 'One row per stored object; the bytes lie in the file named by version.';

create unique index if not exists bucketid_objname on storage.objects (bucket_id, name);
create index if not exists idx_objects_bucket_id_name on storage.objects (bucket_id, name collate "C");
create index if not exists idx_objects_bucket_id_lower_name on storage.objects (bucket_id, lower(name) collate "C");

alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;

-- The grants are wide on purpose: the policies alone decide.
grant all on storage.buckets, storage.objects to postgres with grant option;
grant all on storage.buckets, storage.objects to anon, authenticated, service_role;

create or replace function storage.update_updated_at_column() returns trigger language plpgsql as $$
begin
  new.updated_at = now();
  return new;
end
$$;

create or replace trigger update_objects_updated_at before update on storage.objects
  for each row execute function storage.update_updated_at_column();

-- Rows deleted by plain SQL would leave their bytes behind, so only the Storage service may delete.
create or replace function storage.protect_delete() returns trigger language plpgsql as $$
begin
  if coalesce(current_setting('storage.allow_delete_query', true), 'false') <> 'true' then
    raise exception 'Direct deletion from storage tables is not allowed. Use the Storage API instead.'
      using errcode = '42501', hint = 'This prevents accidental data loss from orphaned objects.';
  end if;
  return null;
end
$$;

create or replace trigger protect_buckets_delete before delete on storage.buckets
  for each statement execute function storage.protect_delete();
create or replace trigger protect_objects_delete before delete on storage.objects
  for each statement execute function storage.protect_delete();

-- 'a/b/c.png' -> {a,b}
create or replace function storage.foldername(name text) returns text[] language sql immutable as $$
  select (string_to_array(name, '/'))[1:array_length(string_to_array(name, '/'), 1) - 1]
$$;

-- 'a/b/c.png' -> 'c.png'
create or replace function storage.filename(name text) returns text language sql immutable as $$
  select split_part(name, '/', -1)
$$;

-- 'a/b/c.tar.gz' -> 'gz'
create or replace function storage.extension(name text) returns text language sql immutable as $$
  select split_part(split_part(name, '/', -1), '.', -1)
$$;

-- What the Storage service is doing, such as 'storage.object.upload'; null outside of it.
create or replace function storage.operation() returns text language sql stable as $$
  select current_setting('storage.operation', true)
$$;

-- True while one of these operations runs; each may be written with or without its 'storage.' prefix.
create or replace function storage.allow_any_operation(expected_operations text[]) returns boolean
language sql stable as $$
  select exists (
    select from unnest(expected_operations) as expected
    where expected <> ''
      and regexp_replace(expected, '^storage\.', '') = regexp_replace(storage.operation(), '^storage\.', '')
  )
$$;

create or replace function storage.allow_only_operation(expected_operation text) returns boolean
language sql stable as $$
  select storage.allow_any_operation(array[expected_operation])
$$;

-- One page of a folder's entries, seen with the caller's rights. `prefix` ends with '/' unless it is empty;
-- `search` narrows to names that begin with it. Comparison and order ignore case; sub-folders come as rows
-- without an id. Sorted by a time, folders come first. At most 1500 rows.
create or replace function storage.search(
  prefix text,
  bucketname text,
  limits integer default 100,
  offsets integer default 0,
  search text default '',
  sortcolumn text default 'name',
  sortorder text default 'asc'
) returns table (
  name text,
  id uuid,
  updated_at timestamptz,
  created_at timestamptz,
  last_accessed_at timestamptz,
  metadata jsonb
) language plpgsql stable as $$
#variable_conflict use_column
declare
  direction text := case when lower(sortorder) = 'desc' then 'desc' else 'asc' end;
  by_time text := case when sortcolumn in ('updated_at', 'created_at', 'last_accessed_at') then sortcolumn end;
  sort_key text := case
    when by_time is null then format('sort_name %s', direction)
    else format('id is not null, %I %s nulls first, sort_name %s', by_time, direction, direction)
  end;
begin
  return query execute format(
    $query$
      with matching as (
        select substr(objects.name, length($1) + 1) as rest, objects.*
        from storage.objects
        where objects.bucket_id = $2 and lower(objects.name) collate "C" ^@ lower($1 || $3)
      ), entries as (
        select rest as name, id, updated_at, created_at, last_accessed_at, metadata,
               lower(rest) collate "C" as sort_name
        from matching
        where strpos(rest, '/') = 0
        union all
        select min(split_part(rest, '/', 1) collate "C"), null, null, null, null, null,
               lower(split_part(rest, '/', 1) || '/') collate "C"
        from matching
        where strpos(rest, '/') > 0
        group by lower(split_part(rest, '/', 1) || '/') collate "C"
      )
      select name, id, updated_at, created_at, last_accessed_at, metadata
      from entries
      order by %s
      limit least($4, 1500) offset $5
    $query$, sort_key
  ) using coalesce(prefix, ''), bucketname, coalesce(search, ''), limits, offsets;
end
$$;

reset role;
