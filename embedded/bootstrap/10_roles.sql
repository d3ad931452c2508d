-- The roles, schemas and rights of a hosted project, before the first migration.
-- Run as supabase_admin; can be run again. Source: supabase/postgres, migrations/db/init-scripts.
-- No default privileges: since 2026-10-30 hosted projects grant nothing on new tables, so neither do we.

do $$
declare
  wanted record;
begin
  for wanted in
    select * from (values
      ('postgres', 'login nosuperuser createdb createrole replication bypassrls'),
      ('anon', 'nologin'),
      ('authenticated', 'nologin'),
      ('service_role', 'nologin bypassrls'),
      ('authenticator', 'login noinherit'),
      ('supabase_auth_admin', 'login noinherit createrole'),
      ('supabase_storage_admin', 'login noinherit createrole'),
      ('supabase_realtime_admin', 'nologin noinherit'),
      ('dashboard_user', 'nologin createdb createrole replication')
    ) as roles (name, attributes)
  loop
    if not exists (select from pg_roles where rolname = wanted.name) then
      execute format('create role %I %s', wanted.name, wanted.attributes);
    end if;
  end loop;
end
$$;

grant anon, authenticated, service_role to authenticator, postgres;
grant authenticator to supabase_storage_admin;
-- Stands in for supautils, which lets `postgres` make policies and triggers on the inner schemas' tables.
grant supabase_auth_admin, supabase_storage_admin, supabase_realtime_admin to postgres;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';
alter role postgres set search_path = "$user", public, extensions;
alter role supabase_admin set search_path = "$user", public, auth, extensions;

do $$ begin execute format('alter database %I owner to postgres', current_database()); end $$;

create schema if not exists extensions authorization postgres;
create schema if not exists auth authorization supabase_auth_admin;
create schema if not exists storage authorization supabase_storage_admin;
create schema if not exists realtime;
create schema if not exists graphql_public;
create schema if not exists vault;

alter schema public owner to pg_database_owner;
grant usage on schema public, extensions, auth, storage, realtime to postgres, anon, authenticated, service_role;
grant all on schema public, auth, storage, realtime to postgres with grant option;

do $$
begin
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
end
$$;
alter publication supabase_realtime owner to postgres;
