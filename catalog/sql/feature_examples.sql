-- The mined contexts of one feature.
select
    band, rank, document_id, char_start, char_end, token_ids, tokens, activations, peak_position, max_activation, split,
    is_special, text_before
from examples
where
    dictionary_id = $dictionary_id
    and activation_set_id = $activation_set_id
    and feature_index = $feature_index
order by band, rank
limit 1000
