-- The mined contexts of one feature, read from the files of its block only.
select
    band, rank, document_id, char_start, char_end, token_ids, tokens, activations, peak_position, max_activation, split
from read_parquet($files, hive_partitioning = false)
where
    dictionary_id = $dictionary_id
    and activation_set_id = $activation_set_id
    and feature_index = $feature_index
order by band, rank
limit 1000
