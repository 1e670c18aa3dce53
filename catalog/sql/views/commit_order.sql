-- The order in which slices were committed: `place` grows with every version of the catalogue and does not depend on
-- the clocks of the writers. Join it by table_name and slice to order rows by age. Slices of a catalogue of 0.1 have
-- negative places, in the order of their times.
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
