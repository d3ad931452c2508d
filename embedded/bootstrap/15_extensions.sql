-- Stand-ins, in SQL alone, for the extensions that every hosted project has: the wheel's Postgres ships no
-- contrib library. They are registered as extensions, so that `create extension if not exists` in a migration
-- finds them, on Postgres 16 too, which cannot be told of a folder with control files.
-- Not here: crypt() and gen_salt(), which need the real library.

do $$
begin
  if exists (select from pg_extension where extname = 'pgcrypto') then
    return;
  end if;

  insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
  values (
    (select max(oid)::bigint + 1 from pg_extension)::oid, 'pgcrypto', 'supabase_admin'::regrole,
    'extensions'::regnamespace, true, '1.3'
  );

  create function extensions.digest(data bytea, type text) returns bytea
  language sql immutable strict parallel safe as $body$
    select case lower(type)
      when 'md5' then decode(md5(data), 'hex')
      when 'sha224' then sha224(data)
      when 'sha256' then sha256(data)
      when 'sha384' then sha384(data)
      when 'sha512' then sha512(data)
    end
  $body$;
  alter extension pgcrypto add function extensions.digest(bytea, text);

  create function extensions.digest(data text, type text) returns bytea
  language sql immutable strict parallel safe as $body$
    select extensions.digest(convert_to(data, 'utf8'), type)
  $body$;
  alter extension pgcrypto add function extensions.digest(text, text);

  create function extensions.gen_random_uuid() returns uuid
  language sql volatile parallel safe as $body$ select pg_catalog.gen_random_uuid() $body$;
  alter extension pgcrypto add function extensions.gen_random_uuid();

  -- A version 4 UUID carries 122 random bits; two of its bytes are partly fixed, so they are left out.
  create function extensions.gen_random_bytes(count integer) returns bytea
  language sql volatile strict parallel safe as $body$
    select substring(string_agg(
      overlay(uuid_send(pg_catalog.gen_random_uuid()) placing ''::bytea from 7 for 3), ''::bytea
    ) from 1 for count)
    from generate_series(1, (count + 12) / 13)
  $body$;
  alter extension pgcrypto add function extensions.gen_random_bytes(integer);
end
$$;

do $$
begin
  if exists (select from pg_extension where extname = 'uuid-ossp') then
    return;
  end if;

  insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
  values (
    (select max(oid)::bigint + 1 from pg_extension)::oid, 'uuid-ossp', 'supabase_admin'::regrole,
    'extensions'::regnamespace, true, '1.1'
  );

  create function extensions.uuid_nil() returns uuid
  language sql immutable parallel safe as $body$ select '00000000-0000-0000-0000-000000000000'::uuid $body$;
  alter extension "uuid-ossp" add function extensions.uuid_nil();

  create function extensions.uuid_generate_v4() returns uuid
  language sql volatile parallel safe as $body$ select pg_catalog.gen_random_uuid() $body$;
  alter extension "uuid-ossp" add function extensions.uuid_generate_v4();
end
$$;
