-- Purpose: where the pictures lie, who may call what, and what Realtime sends.
-- Locks: a short lock on the publication.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values
  ('plant-images', 'plant-images', true, 52428800, array['image/jpeg', 'image/png', 'image/webp']),
  ('plant-images-private', 'plant-images-private', false, 52428800, array['image/jpeg', 'image/png', 'image/webp'])
on conflict (id) do nothing;

-- The last migration that this schema has seen; the API and the worker compare it with what they need.
create or replace function public.schema_version_v1() returns text
language sql stable security invoker set search_path = '' as $$ select '20261120091000' $$;

do $$
declare
  routine regprocedure;
begin
  for routine in
    select p.oid::regprocedure from pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.proname in (
      'ring_workers_v1', 'append_event_v1', 'recall_answer_v1', 'keep_answer_v1', 'create_product_v1', 'plan_run_v1',
      'start_run_v1', 'queue_health_v1', 'merged_variants_v1', 'close_run_v1', 'claim_runs_v1', 'held_run_v1',
      'heartbeat_v1', 'free_runs_of_v1', 'hand_back_v1', 'complete_run_v1', 'reserve_v1', 'begin_steps_v1',
      'send_call_v1', 'accept_task_v1', 'finish_call_v1', 'finish_step_v1', 'cancel_run_v1', 'delete_product_v1',
      'objects_removed_v1', 'list_products_v1', 'runs_of_product_v1', 'spend_v1', 'finished_steps_v1',
      'find_lost_uploads_v1', 'maintenance_v1', 'schema_version_v1')
  loop
    execute format('revoke all on function %s from public, anon, authenticated', routine);
    execute format('grant execute on function %s to service_role', routine);
  end loop;
end $$;

-- Nothing to do where it is there already, or where the publication is for all tables.
do $$
begin
  if not exists (
    select from pg_publication_tables
    where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = 'products'
  ) then
    alter publication supabase_realtime add table public.products;
  end if;
end $$;
