-- Purpose: what a worker does with a run: claim, keep alive, hand back, end. Every write but those about money shows the lease.
-- Locks: new functions only.

-- The scenes that a product shows after a run: those of `made` (all scenes of the pack, in order), or, when the run was
-- to make only a `choice` of them, these in place of the ones shown before. A scene that failed replaces nothing.
create or replace function public.merged_variants_v1(shown jsonb, made jsonb, choice jsonb) returns jsonb
language sql immutable security invoker set search_path = '' as $$
  select coalesce(jsonb_agg(
    case
      when choice is null or old.variant is null then scene.variant
      when choice -> 'keys' ? (scene.variant ->> 'key') and scene.variant ->> 'status' = 'completed' then scene.variant
      else old.variant
    end order by scene.place), '[]')
  from jsonb_array_elements(made) with ordinality as scene (variant, place)
  left join lateral (
    select each_one.variant from jsonb_array_elements(shown) as each_one (variant)
    where each_one.variant ->> 'key' = scene.variant ->> 'key' limit 1
  ) old on true;
$$;

-- End a run and tell its product, in one transaction. Only for the functions below, which have checked the lease.
-- A run that somebody wants stopped ends as cancelled, whatever it came to: its checkpoints stay, the result columns keep
-- their values. `shown_message` is what the product tells its watchers, when that is not `message`.
create or replace function public.close_run_v1(
  run uuid, outcome text, result jsonb, code text, message text, detail jsonb, shown_message text default null)
returns text
language plpgsql security invoker set search_path = '' as $$
declare
  ended public.runs;
  scenes jsonb;
  pictures jsonb;
  missing text;
begin
  -- What was recorded but never sent will not be sent now: its money is free again. Whoever settles one now is not waited for.
  perform public.finish_call_v1(unsent.id, '{"state": "failed", "repeatable": true, "error_code": "not_sent"}')
  from (select c.id from public.calls c where c.run_id = run and c.state = 'intended' for update skip locked) unsent;
  if exists (select from public.runs r where r.id = run and r.cancel_requested_at is not null) then
    outcome := 'cancelled';
  end if;
  if outcome = 'cancelled' then
    code := null;
    message := null;
    shown_message := null;
  end if;
  update public.runs r set
    status = outcome, error_code = code, error_message = left(message, 500),
    manifest = case when outcome = 'completed' then result -> 'manifest' end,
    completed_at = now(), processing_time = extract(epoch from now() - r.started_at)
  where r.id = run
  returning * into ended;
  shown_message := coalesce(shown_message, message);
  if outcome = 'completed' then
    pictures := result -> 'urls';
    select public.merged_variants_v1(p.variants, result -> 'variants', ended.params -> 'only') into scenes
    from public.products p where p.id = ended.product_id;
    if ended.params ? 'only' then
      select coalesce(jsonb_agg(v -> 'url') filter (where v ->> 'status' = 'completed'), '[]'),
        string_agg(v ->> 'label', ', ') filter (where v ->> 'status' <> 'completed')
      into pictures, missing from jsonb_array_elements(scenes) v;
      shown_message := 'Could not be made: ' || missing || '. Process it again to make only these.';
    end if;
    update public.products p set
      status = outcome, error_message = left(shown_message, 500), variants = scenes, generated_image_urls = pictures,
      image_url = coalesce(pictures ->> 0, p.image_url), updated_at = now()
    where p.id = ended.product_id;
  else
    -- The result columns keep their values: what was shown before stays.
    update public.products p set status = outcome, error_message = left(shown_message, 500), updated_at = now()
    where p.id = ended.product_id;
  end if;
  update public.product_private v set error_detail = detail where v.product_id = ended.product_id;
  perform public.append_event_v1(ended.product_id, run, 'run.' || outcome, jsonb_strip_nulls(jsonb_build_object(
    'run_no', ended.run_no, 'error_code', code, 'error_message', left(shown_message, 500), 'urls', pictures)));
  return outcome;
end $$;

-- Take up to `places` runs: first those whose lease ran out, then due ones by priority and age. The attempt is counted
-- here, so that a run that kills its worker is set aside after its last attempt.
-- `holding`: runs the worker still works on; its own expired lease must not come back to it a second time.
-- `take_expired` = false: the worker was itself cut off a moment ago, so others may be alive and about to renew.
-- After a restart of the database every holder gets one lease period to renew before its runs are taken.
create or replace function public.claim_runs_v1(
  worker text, places integer, lease_s integer, take_expired boolean default true, holding uuid[] default '{}')
returns setof jsonb
language plpgsql security invoker set search_path = '' as $$
declare
  lease interval := make_interval(secs => lease_s);
  poison record;
  taken uuid[] := '{}';
  due uuid[];
begin
  if take_expired and now() > pg_postmaster_start_time() + lease then
    for poison in
      select r.id, r.attempts from public.runs r
      where r.status = 'processing' and r.lease_expires_at < now() and r.attempts >= r.max_attempts
        and r.id <> all (holding)
      for update skip locked
    loop
      perform public.close_run_v1(poison.id, 'failed', null, 'worker_lost',
        format('Its worker died %s times while working on this picture.', poison.attempts), null);
    end loop;
    select coalesce(array_agg(expired.id), '{}') into taken from (
      select r.id from public.runs r
      where r.status = 'processing' and r.lease_expires_at < now() and r.attempts < r.max_attempts
        and r.id <> all (holding)
      order by r.lease_expires_at limit places for update skip locked
    ) expired;
  end if;
  select coalesce(array_agg(waiting.id), '{}') into due from (
    select r.id from public.runs r
    where r.status = 'pending' and r.run_at <= now()
    order by r.priority desc, r.run_at, r.id limit places - cardinality(taken) for update skip locked
  ) waiting;
  taken := taken || due;
  if cardinality(taken) = 0 then
    return;
  end if;
  update public.runs r set
    status = 'processing', attempts = r.attempts + 1, locked_by = worker, lease_token = gen_random_uuid(),
    lease_expires_at = now() + lease, started_at = coalesce(r.started_at, now())
  where r.id = any (taken);
  update public.products p set status = 'processing', updated_at = now()
  from public.runs r where r.id = any (taken) and p.id = r.product_id and p.status <> 'processing';
  return query
    select jsonb_build_object(
      'run_id', r.id, 'product_id', r.product_id, 'run_no', r.run_no, 'recipe', r.recipe, 'params', r.params,
      'pack', r.pack, 'pack_version', r.pack_version, 'generation', r.generation, 'base_generation', r.base_generation,
      'attempts', r.attempts, 'max_attempts', r.max_attempts, 'deferrals', r.deferrals, 'lease_token', r.lease_token,
      'age_s', extract(epoch from now() - r.created_at),
      'title', p.title, 'jewellery_type', p.jewellery_type, 'visibility', p.visibility,
      'raw', jsonb_build_object('bucket', v.raw_bucket, 'key', v.raw_key, 'media_type', v.raw_media_type,
        'sha256', v.raw_sha256, 'bytes', v.raw_bytes, 'width', v.raw_width, 'height', v.raw_height),
      'event_seq', public.append_event_v1(r.product_id, r.id, 'run.started', jsonb_build_object(
        'run_no', r.run_no, 'attempt', r.attempts)))
    from unnest(taken) with ordinality as t (id, place)
    join public.runs r on r.id = t.id
    join public.products p on p.id = r.product_id
    join public.product_private v on v.product_id = r.product_id
    order by t.place;
end $$;

-- The run, locked, if the lease still holds it; else VT001.
create or replace function public.held_run_v1(run uuid, lease uuid) returns public.runs
language plpgsql security invoker set search_path = '' as $$
declare
  held public.runs;
begin
  select * into held from public.runs r
  where r.id = run and r.lease_token = lease and r.status = 'processing' for update;
  if not found then
    raise exception 'The lease on this run is lost.' using errcode = 'VT001';
  end if;
  return held;
end $$;

-- Renew all leases of a worker in one call; also tells that it is alive. Returns the runs that it still holds: a lease
-- that ran out but that nobody took is renewed.
create or replace function public.heartbeat_v1(worker text, slots integer, lease_s integer, leases jsonb)
returns setof uuid
language plpgsql security invoker set search_path = '' as $$
begin
  insert into public.workers as w (id, slots) values (worker, slots)
  on conflict (id) do update set seen_at = now(), slots = excluded.slots;
  delete from public.workers w where w.id in (
    select gone.id from public.workers gone where gone.seen_at < now() - interval '1 hour' for update skip locked);
  return query
    update public.runs r set lease_expires_at = now() + make_interval(secs => lease_s)
    from jsonb_to_recordset(leases) as l (run_id uuid, lease_token uuid)
    where r.id = l.run_id and r.lease_token = l.lease_token and r.status = 'processing'
    returning r.id;
end $$;

-- A worker that starts under a name of its own frees what it held when it died: nobody has to wait for the lease.
create or replace function public.free_runs_of_v1(worker text) returns integer
language plpgsql security invoker set search_path = '' as $$
declare
  freed integer;
begin
  update public.runs r set
    status = case when r.attempts < r.max_attempts then 'pending' else r.status end,
    lease_expires_at = now(), run_at = now()
  where r.locked_by = worker and r.status = 'processing';
  get diagnostics freed = row_count;
  return freed;
end $$;

-- Give a run back, with its checkpoints. An orderly hand-back or deferral does not use up the attempt. A run that somebody
-- wants stopped is not put back into the queue: it ends.
create or replace function public.hand_back_v1(run uuid, lease uuid, delay_s double precision default 0, reason text default null)
returns void
language plpgsql security invoker set search_path = '' as $$
declare
  held public.runs := public.held_run_v1(run, lease);
begin
  if held.cancel_requested_at is not null then
    perform public.close_run_v1(run, 'cancelled', null, null, null, null, null);
    return;
  end if;
  update public.runs r set
    status = 'pending', attempts = r.attempts - 1, deferrals = r.deferrals + case when delay_s > 0 then 1 else 0 end,
    run_at = now() + make_interval(secs => delay_s), error_message = left(reason, 500),
    locked_by = null, lease_token = null, lease_expires_at = null
  where r.id = run;
  perform public.append_event_v1(held.product_id, run, 'run.deferred', jsonb_strip_nulls(jsonb_build_object(
    'run_no', held.run_no, 'delay_s', delay_s, 'reason', left(reason, 500))));
  if delay_s <= 0 then
    perform public.ring_workers_v1();
  end if;
end $$;

-- End a run. Repeating the call after a lost answer changes nothing. Returns how the run really ended: `cancelled` when
-- somebody wanted it stopped meanwhile.
-- `result` for a completed run: {"urls": [...], "variants": [...], "manifest": {...}}.
create or replace function public.complete_run_v1(
  run uuid, lease uuid, outcome text, result jsonb default null, code text default null, message text default null,
  detail jsonb default null, shown_message text default null)
returns text
language plpgsql security invoker set search_path = '' as $$
declare
  ended text;
begin
  select r.status into ended from public.runs r
  where r.id = run and r.lease_token = lease and r.completed_at is not null and r.status in (outcome, 'cancelled');
  if found then
    return ended;
  end if;
  perform public.held_run_v1(run, lease);
  return public.close_run_v1(run, outcome, result, code, message, detail, shown_message);
end $$;
