-- In which order slices came into the catalogue: `place` grows with every version of the catalogue, whatever
-- the writers' clocks said. Join it by table_name and slice to tell newer rows from older ones. Slices of a
-- catalogue of 0.1 have negative places, in the order of their times.
select
    table_name,
    slice,
    subject,
    fingerprint,
    committed_in,
    committed_at,
    coalesce(
        committed_in,
        dense_rank() over (order by committed_in is not null, committed_at) - 1_000_000_000
    ) as place
from slices
