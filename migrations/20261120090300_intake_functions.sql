-- Purpose: what the API does in one transaction: create a product with its first run, plan and start another run, tell
-- its health.
-- Locks: new functions only.
--
-- Errors that the product raises on purpose carry these codes (PostgREST passes them on in `code`):
--   VT001 the lease is lost   VT002 over budget   VT003 a run is active   VT004 not found
--   VT005 the Idempotency-Key was used for another request   VT006 nothing to process
--   VT007 somebody wants the run stopped

-- Ring the workers. The bell is a hint, the table decides; a bell that cannot ring must not undo the work.
create or replace function public.ring_workers_v1() returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform realtime.send('{}'::jsonb, 'look', 'vitrine-runs', true);
exception when others then
  raise warning 'the bell did not ring: %', sqlerrm;
end $$;

-- Append to a product's story. The counter's row lock orders writers, so numbers are gapless and in commit order.
create or replace function public.append_event_v1(product uuid, run uuid, kind text, details jsonb) returns bigint
language plpgsql security invoker set search_path = '' as $$
declare
  number bigint;
begin
  update public.product_private set event_seq = event_seq + 1
  where product_private.product_id = product
  returning product_private.event_seq into number;
  if number is not null then
    insert into public.events (product_id, seq, run_id, type, data) values (product, number, run, kind, details);
  end if;
  return number;
end $$;

-- Remember or recall the answer to a write with an Idempotency-Key. Returns the earlier answer, or null for the first.
create or replace function public.recall_answer_v1(request jsonb) returns jsonb
language plpgsql security invoker set search_path = '' as $$
declare
  earlier public.idempotency_keys;
begin
  if request is null then
    return null;
  end if;
  -- Two requests with one key wait for each other here, until the first has committed.
  perform pg_advisory_xact_lock(hashtextextended(concat(request ->> 'owner', ':', request ->> 'key'), 0));
  delete from public.idempotency_keys k
  where k.owner = request ->> 'owner' and k.key = request ->> 'key' and k.created_at < now() - interval '1 day';
  select * into earlier from public.idempotency_keys k
  where k.owner = request ->> 'owner' and k.key = request ->> 'key';
  if found and earlier.request_hash <> request ->> 'request_hash' then
    raise exception 'This Idempotency-Key was used for a different request.' using errcode = 'VT005';
  end if;
  return earlier.answer;
end $$;

create or replace function public.keep_answer_v1(request jsonb, answer jsonb) returns void
language sql security invoker set search_path = '' as $$
  insert into public.idempotency_keys (owner, key, request_hash, answer)
  select request ->> 'owner', request ->> 'key', request ->> 'request_hash', answer
  where request is not null;
$$;

-- A new product with its first run. `raw` says where the upload lies, `run` what to do with it.
-- Returns {"product_id", "run_id", "run_no", "raw_image_url", "replayed"}.
create or replace function public.create_product_v1(product jsonb, raw jsonb, run jsonb, request jsonb default null)
returns jsonb
language plpgsql security invoker set search_path = '' as $$
declare
  answer jsonb := public.recall_answer_v1(request);
  new_product uuid := (product ->> 'id')::uuid;
  new_run uuid;
begin
  if answer is not null then
    return answer || '{"replayed": true}';
  end if;
  insert into public.products
    (id, title, jewellery_type, image_url, raw_image_url, status, run_no, visibility, owner_id)
  values
    (new_product, coalesce(product ->> 'title', 'Untitled'), product ->> 'jewellery_type', raw ->> 'url', raw ->> 'url',
     'pending', 1, coalesce(product ->> 'visibility', 'public'), (product ->> 'owner_id')::uuid);
  insert into public.product_private
    (product_id, raw_bucket, raw_key, raw_media_type, raw_sha256, raw_bytes, raw_width, raw_height)
  values
    (new_product, raw ->> 'bucket', raw ->> 'key', raw ->> 'media_type', raw ->> 'sha256', (raw ->> 'bytes')::bigint,
     (raw ->> 'width')::integer, (raw ->> 'height')::integer);
  insert into public.runs
    (product_id, run_no, recipe, params, pack, pack_version, generation, base_generation, max_attempts, priority)
  values
    (new_product, 1, run ->> 'recipe', coalesce(run -> 'params', '{}'), run ->> 'pack', (run ->> 'pack_version')::integer,
     0, 0, (run ->> 'max_attempts')::integer, coalesce((run ->> 'priority')::integer, 0))
  returning id into new_run;
  perform public.append_event_v1(new_product, new_run, 'run.queued', jsonb_build_object('run_no', 1));
  answer := jsonb_build_object('product_id', new_product, 'run_id', new_run, 'run_no', 1, 'raw_image_url', raw ->> 'url');
  perform public.keep_answer_v1(request, answer);
  perform public.ring_workers_v1();
  return answer || '{"replayed": false}';
end $$;

-- What the next run on a product would be: {"run_no", "generation", "base_generation", "only"}. `only`, when it is there,
-- names the scenes to make: {"keys": [...], "prompt", "remake"}; `remake` is the number of the run that was first to make
-- them again, so that all attempts at it, and its continuation, are one purchase.
--   run -> 'only' is given       these scenes again, nothing else
--   a new upload, or `fresh`     all scenes (`fresh`: the cut-out as well)
--   the latest run was to make only some scenes and did not   it is continued
--   the result shown is partial  what is missing
--   the result shown is whole    a new generation of all scenes
--   else                         all scenes of this generation: what is finished is reused
-- Raises VT003 when a run is active, VT004 when there is no such product, VT006 when its upload is not known.
create or replace function public.plan_run_v1(product uuid, run jsonb, new_upload boolean, fresh boolean) returns jsonb
language plpgsql stable security invoker set search_path = '' as $$
declare
  shown public.products;
  private public.product_private;
  latest public.runs;
  missing jsonb;
  alike boolean;
  renews boolean;
  only_these jsonb;
begin
  select * into shown from public.products p where p.id = product;
  if not found then
    raise exception 'There is no product %.', product using errcode = 'VT004';
  end if;
  select * into latest from public.runs r where r.product_id = product and r.status in ('pending', 'processing');
  if found then
    raise exception 'This product is being processed already.'
      using errcode = 'VT003', detail = jsonb_build_object('run_id', latest.id)::text;
  end if;
  select * into private from public.product_private v where v.product_id = product;
  if not found and not new_upload then
    raise exception 'The upload of this product is not known here: send the file again.' using errcode = 'VT006';
  end if;
  select * into latest from public.runs r where r.product_id = product and r.run_no = shown.run_no;
  alike := latest.recipe = run ->> 'recipe' and latest.params - 'only' = coalesce(run -> 'params', '{}')
    and latest.pack is not distinct from run ->> 'pack'
    and latest.pack_version is not distinct from (run ->> 'pack_version')::integer;
  select jsonb_agg(v -> 'key') into missing from jsonb_array_elements(shown.variants) v where v ->> 'status' <> 'completed';
  renews := fresh or (shown.status = 'completed' and missing is null and not run ? 'only');
  if run ? 'only' then
    only_these := run -> 'only' || jsonb_build_object('remake', shown.run_no + 1);
  elsif alike and not new_upload and not fresh then
    if latest.status in ('failed', 'cancelled') then
      only_these := latest.params -> 'only';
    elsif shown.status = 'completed' and missing is not null then
      only_these := jsonb_build_object('keys', missing);
    end if;
  end if;
  return jsonb_strip_nulls(jsonb_build_object(
    'run_no', shown.run_no + 1, 'only', only_these,
    'generation', shown.generation + renews::integer,
    'base_generation', coalesce(private.base_generation, 0) + fresh::integer));
end $$;

-- Another run on a product, as `plan_run_v1` has it. `raw` replaces the upload; the earlier one stays until the product
-- goes. `clear` empties the shown result at once for clients that only look at the array.
create or replace function public.start_run_v1(
  product uuid, raw jsonb, run jsonb, fresh boolean default false, clear boolean default false, request jsonb default null)
returns jsonb
language plpgsql security invoker set search_path = '' as $$
declare
  answer jsonb := public.recall_answer_v1(request);
  plan jsonb;
  current_product public.products;
  new_run uuid;
begin
  if answer is not null then
    return answer || '{"replayed": true}';
  end if;
  perform from public.products p where p.id = product for update;
  plan := public.plan_run_v1(product, run, raw is not null, fresh);
  if raw is not null then
    insert into public.product_private as v
      (product_id, raw_bucket, raw_key, raw_media_type, raw_sha256, raw_bytes, raw_width, raw_height)
    values
      (product, raw ->> 'bucket', raw ->> 'key', raw ->> 'media_type', raw ->> 'sha256', (raw ->> 'bytes')::bigint,
       (raw ->> 'width')::integer, (raw ->> 'height')::integer)
    on conflict (product_id) do update set
      raw_bucket = excluded.raw_bucket, raw_key = excluded.raw_key, raw_media_type = excluded.raw_media_type,
      raw_sha256 = excluded.raw_sha256, raw_bytes = excluded.raw_bytes,
      raw_width = excluded.raw_width, raw_height = excluded.raw_height,
      earlier_raws = v.earlier_raws || jsonb_build_object('bucket', v.raw_bucket, 'key', v.raw_key);
  end if;
  update public.product_private v
  set base_generation = (plan ->> 'base_generation')::integer, error_detail = null
  where v.product_id = product;
  update public.products p set
    status = 'pending', progress = '{}', error_message = null, run_no = (plan ->> 'run_no')::integer,
    generation = (plan ->> 'generation')::integer,
    title = coalesce(run ->> 'title', p.title), jewellery_type = coalesce(run ->> 'jewellery_type', p.jewellery_type),
    raw_image_url = coalesce(raw ->> 'url', p.raw_image_url),
    -- Until there are scenes, the upload is what is shown: a new one replaces the old one.
    image_url = case when clear or jsonb_array_length(p.generated_image_urls) = 0
      then coalesce(raw ->> 'url', p.raw_image_url, p.image_url) else p.image_url end,
    generated_image_urls = case when clear then '[]' else p.generated_image_urls end,
    updated_at = now()
  where p.id = product
  returning * into current_product;
  insert into public.runs
    (product_id, run_no, recipe, params, pack, pack_version, generation, base_generation, max_attempts, priority)
  values
    (product, current_product.run_no, run ->> 'recipe',
     coalesce(run -> 'params', '{}') || jsonb_strip_nulls(jsonb_build_object('only', plan -> 'only')),
     run ->> 'pack', (run ->> 'pack_version')::integer, current_product.generation,
     (plan ->> 'base_generation')::integer, (run ->> 'max_attempts')::integer, coalesce((run ->> 'priority')::integer, 0))
  returning id into new_run;
  perform public.append_event_v1(product, new_run, 'run.queued', jsonb_build_object('run_no', current_product.run_no));
  answer := jsonb_build_object('product_id', product, 'run_id', new_run, 'run_no', current_product.run_no,
    'raw_image_url', current_product.raw_image_url);
  perform public.keep_answer_v1(request, answer);
  perform public.ring_workers_v1();
  return answer || '{"replayed": false}';
end $$;

-- How the queue and the workers are. A worker counts as alive while its last heartbeat is younger than a minute.
create or replace function public.queue_health_v1() returns jsonb
language sql stable security invoker set search_path = '' as $$
  select jsonb_build_object(
    'pending', count(*) filter (where r.status = 'pending'),
    'processing', count(*) filter (where r.status = 'processing'),
    'oldest_pending_s', coalesce(
      round(extract(epoch from now() - min(r.run_at) filter (where r.status = 'pending' and r.run_at <= now())), 1), 0),
    'workers', (select count(*) from public.workers w where w.seen_at > now() - interval '1 minute'))
  from public.runs r where r.status in ('pending', 'processing');
$$;
