-- Mined contexts of one feature, from the files of its block as the store names them; columns of later versions are null.
select
    activation_set_id,
    band,
    rank,
    document_id,
    sequence_index,
    token_start,
    char_start,
    char_end,
    token_ids,
    tokens,
    activations,
    peak_position,
    max_activation,
    split,
    is_special,
    text_before
from (
    select null::boolean[] as is_special, null::integer as text_before where false
    union all by name
    select * from read_parquet($files, hive_partitioning = false, union_by_name = true)
)
where dictionary_id = $dictionary_id and feature_index = $feature_index
order by activation_set_id, case band when 'top' then 0 when 'random' then 8 when 'neighbour' then 9 else 5 end, band, rank
limit $limit
