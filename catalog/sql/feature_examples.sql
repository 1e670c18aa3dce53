-- Mined contexts of one feature. The files are those of its block, as the store names them.
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
    split
from read_parquet($files, hive_partitioning = false)
where dictionary_id = $dictionary_id and feature_index = $feature_index
order by activation_set_id, case band when 'top' then 0 when 'random' then 8 when 'neighbour' then 9 else 5 end, band, rank
limit $limit
