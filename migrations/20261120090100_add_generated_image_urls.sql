-- Purpose: the array that the storefront shows. It is written once, whole, when a run ends.
-- Locks: an exclusive lock while the rows are read once; a constant default rewrites nothing. Re-runnable.

alter table public.products
  add column if not exists generated_image_urls jsonb not null default '[]';

-- A shop may have the column already, without its default, and with rows that it left empty.
update public.products set generated_image_urls = '[]'
where generated_image_urls is null or jsonb_typeof(generated_image_urls) = 'null';
alter table public.products
  alter column generated_image_urls set default '[]',
  alter column generated_image_urls set not null;

do $$
begin
  alter table public.products add constraint products_generated_image_urls_is_small_array
    check (jsonb_typeof(generated_image_urls) = 'array' and octet_length(generated_image_urls::text) <= 8192);
exception when duplicate_object then null;
end $$;

comment on column public.products.generated_image_urls is
  'Up to four picture URLs in scene order, failed scenes left out. Never written in part.';

-- A shop's earlier rows that show pictures are done.
update public.products set status = 'completed'
where run_no = 0 and status = 'pending' and jsonb_array_length(generated_image_urls) > 0;
